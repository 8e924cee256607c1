"""Objectives: what a request has to keep to be a good one (an SLO)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import msgspec

from intaglio.errors import UsageError
from intaglio.load.record import Record

NAMES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2e", "e2el": "e2e"}  # e2el: vLLM's name


class Objectives(msgspec.Struct, frozen=True):
    """`most`: measure -> milliseconds; of `itl`, what the longest gap of a request may be."""

    most: dict[str, float] = {}

    def met(self, record: Record) -> bool:
        """Whether all are kept. One token has no time between tokens; an answer without any is not good."""
        return all(self._value(name, record) <= most for name, most in self.most.items())

    def _value(self, name: str, record: Record) -> float:
        if record.ttft_ms is None:
            return math.inf
        if name == "itl":
            return max(record.itl_ms, default=0.0)
        return {"ttft": record.ttft_ms, "tpot": record.tpot_ms or 0.0, "e2e": record.e2e_ms}[name]


def objectives(texts: Iterable[str]) -> Objectives:
    """`ttft:200 tpot:50` -> each at most so many milliseconds."""
    most: dict[str, float] = {}
    for text in (one for texts_ in texts for one in re.split(r"[\s,]+", texts_) if one):
        name, _, value = text.partition(":")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if name not in NAMES or not 0 < limit < math.inf:
            raise UsageError(
                f"--goodput: {text!r} is no objective; expected milliseconds of ttft, tpot, itl or e2e,"
                ' as in "ttft:200 tpot:50"'
            )
        most[NAMES[name]] = limit
    return Objectives(most)

"""Request: what is to be measured, in the words of the command line."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from intaglio.load.dataset import Dataset
from intaglio.load.objectives import Objectives
from intaglio.load.pace import Pace
from intaglio.load.synthetic import Synthetic
from intaglio.load.target import Target


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`model`: None: the first the server has. `warmup`: requests before. `timeout`: seconds for each."""

    target: Target
    model: str | None
    headers: dict[str, str]
    prompts: Synthetic | Dataset
    pace: Pace
    ignore_eos: bool = False
    extra: dict[str, Any] = {}
    warmup: int = 1
    timeout: float = 600.0
    objectives: Objectives = Objectives()
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """As plain data, with the names of headers only: their values may be secret."""
        rate = self.pace.rate
        return {
            "prompts": msgspec.to_builtins(self.prompts, enc_hook=str),
            "request_rate": rate if math.isfinite(rate) else "inf",
            "burstiness": self.pace.burstiness,
            "max_concurrency": self.pace.concurrency,
            "ignore_eos": self.ignore_eos,
            "extra_body": self.extra,
            "headers": sorted(self.headers),
            "warmup": self.warmup,
            "timeout_s": self.timeout,
            "goodput_ms": self.objectives.most,
            "seed": self.seed,
        }

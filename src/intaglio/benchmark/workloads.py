"""Workloads: what is measured, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from intaglio.errors import UsageError

Kind = Literal["prefill", "decode", "batch"]
STEPS = 32  # tokens of a timed answer; it ends at the context it is named for
PROMPT, ANSWER = 128, 64  # tokens of each stream of a batch
FIRST = 32  # tokens of the prompt whose answer's first token is waited for


class Workload(msgspec.Struct, frozen=True):
    """`size`: tokens of a prefill, context of a decode, streams of a batch."""

    kind: Kind
    size: int

    @property
    def name(self) -> str:
        words = {"prefill": "prefill {}", "decode": "decode at {}", "batch": "batch of {}"}
        return words[self.kind].format(self.size)

    @property
    def tokens(self) -> int:
        """What is counted for tokens a second: for a batch, what went in and what came out."""
        return {"prefill": self.size, "decode": STEPS, "batch": self.size * (PROMPT + ANSWER)}[self.kind]

    @property
    def generated(self) -> int:
        """Of these, drawn."""
        return {"prefill": 0, "decode": STEPS, "batch": self.size * ANSWER}[self.kind]

    @property
    def streams(self) -> int:
        return self.size if self.kind == "batch" else 1

    @property
    def positions(self) -> int:
        """Tokens of one stream, all in all."""
        return PROMPT + ANSWER if self.kind == "batch" else self.size


# the three numbers that stand for all
HEADLINES = {
    "decode": Workload("decode", 64),
    "prefill": Workload("prefill", 512),
    "batch32": Workload("batch", 32),
}
SIZES: dict[Kind, Sequence[int]] = {
    "prefill": (128, 512, 2048),
    "decode": (64, 1024, 4096, 8192),
    "batch": (1, 4, 16, 64),
}


def planned(sizes: Mapping[Kind, Sequence[int]]) -> list[Workload]:
    """Every workload once, ascending; a kind that is measured at all is measured at its headline's size."""
    found = []
    for kind, wanted in sizes.items():
        headline = next(w.size for w in HEADLINES.values() if w.kind == kind)
        least = STEPS + 1 if kind == "decode" else 1
        if wrong := [size for size in wanted if size < least]:
            raise UsageError(f"{kind} of {wrong[0]} cannot be measured: the least is {least}")
        found += [Workload(kind, size) for size in sorted({*wanted, headline} if wanted else ())]
    return found


def fitting(workloads: Sequence[Workload], positions: int) -> tuple[list[Workload], list[Workload]]:
    """Those a model of so many positions can do, and those it cannot."""
    fits = [w for w in workloads if w.positions <= positions]
    return fits, [w for w in workloads if w.positions > positions]


def needs(workloads: Sequence[Workload]) -> tuple[int, int]:
    """The most positions of a stream, and the most streams, of any of them; room for the first prompt too."""
    positions = max(FIRST + 1, *(workload.positions for workload in workloads))
    return positions, max(workload.streams for workload in workloads)

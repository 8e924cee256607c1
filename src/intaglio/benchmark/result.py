"""Result: everything measured in one run. As JSON one flat object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median, quantiles
from typing import Any

import msgspec

from intaglio.benchmark.machine import Limits, Machine
from intaglio.benchmark.workloads import HEADLINES, Kind, Workload


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One workload on one engine in one format: tokens a second.

    `spread` is the distance of the quartiles over the median; `intensity` is in MAC per byte read.
    """

    workload: str
    kind: Kind
    size: int
    engine: str
    format: str
    median: float
    best: float
    spread: float
    rounds: int
    generated_per_s: float | None = None  # of a batch: only what was drawn
    intensity: float
    gmac_s: float


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A fresh process until its first token, after a prompt of 32: medians, in seconds and bytes.

    `beyond_python_s`: without what an interpreter takes that does nothing.
    """

    engine: str
    format: str
    load_s: float
    first_token_s: float
    beyond_python_s: float
    peak_rss_bytes: int
    rounds: int


class Shapes(msgspec.Struct, frozen=True):
    """What a model's matrices are like."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    positions: int


class Model(msgspec.Struct, frozen=True):
    """What was measured: its name, its stored weights, its shapes."""

    name: str
    bytes: int
    shapes: Shapes


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`skipped`: engine -> why it is not here. `notes`: what was left out."""

    model: Model
    base: str | None
    command: str
    threads: int
    machine: Machine
    limits: Limits
    cells: list[Cell]
    starts: list[Start]
    skipped: dict[str, str]
    notes: list[str]
    versions: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Plain data, ready for JSON; the headlines first: engine -> tokens a second in its best format."""
        headlines = {name: self.headline(workload) for name, workload in HEADLINES.items()}
        return headlines | msgspec.to_builtins(self)  # type: ignore[no-any-return]

    def headline(self, workload: Workload) -> dict[str, float]:
        """Engine -> tokens a second of its best format."""
        return {cell.engine: cell.median for cell in best(self.cells) if cell.workload == workload.name}


def best(cells: Iterable[Cell]) -> list[Cell]:
    """The fastest format of each engine for each workload, in the order measured."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = (cell.workload, cell.engine)
        if key not in found or cell.median > found[key].median:
            found[key] = cell
    return list(found.values())


def spread(values: Sequence[float]) -> float:
    """(third quartile - first) / median; nothing is known of a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / median(values)

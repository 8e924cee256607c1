"""The tables of a run: what got through, how long it took, what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from intaglio.load.record import Record
from intaglio.load.result import Result
from intaglio.load.statistics import Distribution, Statistics
from intaglio.pages.table import Table

# measure -> its name in the table
LATENCIES = {"ttft_ms": "TTFT", "itl_ms": "ITL", "tpot_ms": "TPOT", "e2e_ms": "end to end"}
COLUMNS: dict[str, Callable[[Distribution], float]] = {
    "mean": lambda d: d.mean,
    "median": lambda d: d.median,
    "p90": lambda d: d.p90,
    "p95": lambda d: d.p95,
    "p99": lambda d: d.p99,
    "max": lambda d: d.max,
}
RATES: dict[str, Callable[[Statistics], str]] = {
    "whole": lambda s: f"{s.completed:,}",
    "failed": lambda s: f"{s.failed:,}",
    "requests/s": lambda s: f"{s.requests_per_s:.2f}",
    "tokens in": lambda s: f"{s.prompt_tokens:,}",
    "cached": lambda s: "–" if s.cached_tokens is None else f"{s.cached_tokens:,}",
    "out": lambda s: f"{s.output_tokens:,}",
    "out/s": lambda s: f"{s.output_tokens_per_s:,.1f}",
    "in + out/s": lambda s: f"{s.total_tokens_per_s:,.1f}",
}
GOOD: dict[str, Callable[[Statistics], str]] = {
    "good": lambda s: "–" if s.goodput is None else f"{s.goodput.share:.1%}",
    "good/s": lambda s: "–" if s.goodput is None else f"{s.goodput.requests_per_s:.2f}",
}


def tables(result: Result, records: Sequence[Record]) -> list[Table]:
    """A row a part of the mix, then all of them."""
    groups = {**result.parts, "all": result.overall}
    failed = [one for one in records if one.error is not None]
    found = [_rates(result, groups), _latencies(groups)]
    return [*found, _errors(result, failed)] if failed else found


def _rates(result: Result, groups: dict[str, Statistics]) -> Table:
    columns = RATES | (GOOD if result.overall.goodput else {})
    rows = [[name, *(write(group) for write in columns.values())] for name, group in groups.items()]
    title = (
        f"{result.model} at {result.url}{result.endpoint}: {result.duration_s:.1f} s,"
        f" {result.concurrency:.1f} requests at once"
    )
    return Table(title, ["", *columns], rows)


def _latencies(groups: dict[str, Statistics]) -> Table:
    rows = [
        [name, latency, *_across(getattr(group, measure))]
        for measure, latency in LATENCIES.items()
        for name, group in groups.items()
    ]
    return Table("milliseconds", ["", "", *COLUMNS], rows, words=(0, 1))


def _across(found: Distribution | None) -> list[str]:
    return ["–" if found is None else f"{value(found):,.1f}" for value in COLUMNS.values()]


def _errors(result: Result, failed: Sequence[Record]) -> Table:
    example = {one.error: one.detail for one in reversed(failed)}  # the first of each
    rows = [[kind, str(count), example[kind]] for kind, count in result.overall.errors.items()]
    return Table("failed", ["why", "requests", "for example"], rows, words=(0, 2))

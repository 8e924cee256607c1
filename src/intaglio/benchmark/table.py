"""The table of a run: a row a workload, a column an engine, each in its best format."""

from __future__ import annotations

from collections.abc import Callable

from intaglio.benchmark.engines import ENGINES
from intaglio.benchmark.result import Cell, Result, Start, best
from intaglio.pages.table import Table

OURS = "intaglio"


def tables(result: Result) -> list[Table]:
    """Speed, and how the engines start."""
    return [_speed(result), *([_starting(result)] if result.starts else [])]


def number(value: float) -> str:
    """Four significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def limits_line(result: Result) -> str:
    """What the machine can do, in one sentence."""
    found, machine = result.limits, result.machine
    reads = (
        f"{number(found.read_gb_s)} GB/s at the model's size and {number(found.dram_gb_s)} GB/s from memory"
    )
    return (
        f"{machine.cpu}, {result.threads} threads, {machine.isa}: reads {reads},"
        f" {number(found.int8_gmac_s)} GMAC/s in int8"
    )


def _speed(result: Result) -> Table:
    engines = [engine for engine in ENGINES if any(cell.engine == engine for cell in result.cells)]
    fastest = {(cell.workload, cell.engine): cell for cell in best(result.cells)}
    workloads = list(dict.fromkeys(cell.workload for cell in result.cells))
    rows = [[workload, *_across(workload, engines, fastest)] for workload in workloads]
    return Table("tokens/s", ["", *(ENGINES[engine][1] for engine in engines)], rows)


def _across(workload: str, engines: list[str], fastest: dict[tuple[str, str], Cell]) -> list[str]:
    ours = fastest.get((workload, OURS))
    return [_cell(fastest.get((workload, engine)), ours) for engine in engines]


def _cell(cell: Cell | None, ours: Cell | None) -> str:
    """`1,234 ±2%`, of a peer its format and how many times slower than ours."""
    if cell is None:
        return "–"
    said = f"{number(cell.median)} ±{cell.spread / 2:.0%}"
    if cell.engine == OURS or ours is None:
        return said
    return f"{said} {cell.format} ({ours.median / cell.median:.2f}x)"


LINES: dict[str, Callable[[Start], str]] = {
    "load, s": lambda start: f"{start.load_s:.3f}",
    "first token, s": lambda start: f"{start.first_token_s:.3f}",
    "beyond Python, s": lambda start: f"{start.beyond_python_s:.3f}",
    "peak memory, MB": lambda start: number(start.peak_rss_bytes / 1e6),
}


def _starting(result: Result) -> Table:
    """A row a format: how long a fresh process takes until the first token after 32, and what it holds."""
    rows = [
        [f"{ENGINES[start.engine][1]} {'' if start.engine == OURS else start.format}".strip()]
        + [line(start) for line in LINES.values()]
        for start in result.starts
    ]
    return Table("a fresh process, a prompt of 32 tokens", ["", *LINES], rows)

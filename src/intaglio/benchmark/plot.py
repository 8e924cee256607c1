"""The roofline as SVG, by hand: what each workload reached beside what the machine can do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from intaglio.benchmark.engines import ENGINES
from intaglio.benchmark.result import Cell, Result
from intaglio.benchmark.table import number
from intaglio.pages.axis import Axis
from intaglio.pages.svg import drawing, line, polyline, text

WIDTH, HEIGHT = 960, 560
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 24, 56
RADIUS = 6.0
SHAPES = {"prefill": "square", "decode": "circle", "batch": "diamond"}


def svg(result: Result) -> str:
    """One `<svg>`; colours come from classes, so that the page around it decides on light and dark."""
    x, y = _axes(result)
    parts = [*_grid(x, y), *_roofs(result, x, y), *_points(result.cells, x, y), *_legend(result.cells)]
    return drawing(WIDTH, HEIGHT, f"Roofline of {result.model.name}", parts)


def _axes(result: Result) -> tuple[Axis, Axis]:
    """Everything in sight, with room around it; the ridge, where reading no longer limits, too."""
    peak, read = result.limits.int8_gmac_s, result.limits.read_gb_s
    across = [cell.intensity for cell in result.cells] + [peak / result.limits.dram_gb_s]
    up = [cell.gmac_s for cell in result.cells] + [peak]
    left, right = min(across) / 2, max(across) * 3
    low = min(*up, left * min(read, result.limits.dram_gb_s)) / 2
    return Axis(left, right, LEFT, WIDTH - RIGHT), Axis(low, max(up) * 2, HEIGHT - BOTTOM, TOP)


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    for value in x.ticks():
        yield line(x.at(value), y.begin, x.at(value), y.end, "grid")
        yield text(x.at(value), y.begin + 18, f"{value:g}", "tick", "middle")
    for value in y.ticks():
        yield line(x.begin, y.at(value), x.end, y.at(value), "grid")
        yield text(x.begin - 8, y.at(value) + 4, f"{value:g}", "tick", "end")
    yield text(
        (x.begin + x.end) / 2, HEIGHT - 12, "arithmetic intensity, MAC per byte read", "label", "middle"
    )
    middle = (y.begin + y.end) / 2
    yield text(18, middle, "GMAC/s", "label", "middle", turn=f"rotate(-90 18 {middle:.1f})")


def _roofs(result: Result, x: Axis, y: Axis) -> Iterator[str]:
    """Reading is a slope, computing a level; each roof is the lower of the two."""
    found = result.limits
    peak, near = found.int8_gmac_s, found.read_gb_s
    yield from _roof(near, peak, x, y, "roof", f"{number(near)} GB/s at the model's size")
    yield from _roof(
        found.dram_gb_s, peak, x, y, "roof dashed", f"{number(found.dram_gb_s)} GB/s from memory"
    )
    yield text(x.end - 6, y.at(peak) - 8, f"int8 {number(peak)} GMAC/s", "note", "end")


def _roof(speed: float, peak: float, x: Axis, y: Axis, style: str, name: str) -> Iterator[str]:
    """From the left edge up to the ridge, then level; `speed` in GB/s, `peak` in GMAC/s."""
    ridge = min(max(peak / speed, x.low), x.high)
    corners = [(x.low, min(x.low * speed, peak)), (ridge, min(ridge * speed, peak)), (x.high, peak)]
    places = [(x.at(across), y.at(up)) for across, up in corners]
    yield polyline(places, style, name)
    (left, low), (right, high), _ = places
    share, below = (0.2, 18) if "dashed" in style else (0.5, -8)  # apart, and clear of most points
    across, up = left + share * (right - left), low + share * (high - low)
    angle = math.degrees(math.atan2(high - low, right - left))
    turn = f"rotate({angle:.1f} {across:.1f} {up:.1f})"
    yield text(across, up + below, name, "note", "middle", turn=turn)


def _points(cells: Sequence[Cell], x: Axis, y: Axis) -> Iterator[str]:
    for cell in cells:
        name = f"{ENGINES[cell.engine][1]} {cell.format}, {cell.workload}: {number(cell.median)} tokens/s"
        measured = f"{number(cell.gmac_s)} GMAC/s at {number(cell.intensity)} MAC/byte"
        shape = _mark(cell.kind, x.at(cell.intensity), y.at(cell.gmac_s))
        title = escape(f"{name}, {measured}")
        yield f'<path class="point {cell.engine}" d="{shape}"><title>{title}</title></path>'


def _mark(kind: str, x: float, y: float) -> str:
    """A square, a circle or a diamond around a point."""
    r = RADIUS
    if SHAPES[kind] == "circle":
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    if SHAPES[kind] == "square":
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z"
    return f"M{x - r - 1:.1f} {y:.1f}l{r + 1} {-r - 1}l{r + 1} {r + 1}l{-r - 1} {r + 1}z"


def _legend(cells: Sequence[Cell]) -> Iterator[str]:
    """Colours are engines, shapes workloads."""
    left, top = LEFT + 18, TOP + 16
    for engine, (_, name) in ENGINES.items():
        if any(cell.engine == engine for cell in cells):
            yield f'<path class="swatch {engine}" d="{_mark("decode", left, top - 4)}"/>'
            yield text(left + 14, top, name, "note", "start")
            top += 20
    for kind in SHAPES:
        if any(cell.kind == kind for cell in cells):
            yield f'<path class="swatch shape" d="{_mark(kind, left, top - 4)}"/>'
            yield text(left + 14, top, kind, "note", "start")
            top += 20

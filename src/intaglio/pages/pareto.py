"""Pareto plot: choices as points, what they cost across, what they give upwards, and those that none beats.

A point says its name and numbers when it is pointed at or reached with the Tab key. Names are written beside
the points where there is room, those on the frontier first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from intaglio.pages.axis import Axis, around
from intaglio.pages.svg import drawing, line, polyline, text

LEFT, RIGHT, TOP, BOTTOM = 72, 16, 12, 50
RADIUS = 5.5
LETTER, LINE = 7.2, 15.0  # about the size of a letter of a name, in pixels

STYLE = """
svg .frontier-line { fill: none; stroke: var(--accent); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .choice circle { fill: var(--other); stroke: var(--page); }
svg .choice.frontier circle { fill: var(--accent); }
svg .choice.original circle { fill: var(--page); stroke: var(--ink); stroke-width: 1.5; }
svg .choice.out circle { fill: none; stroke: var(--faint); }
svg .choice { cursor: help; outline: none; }
svg .choice:hover circle, svg .choice:focus circle { stroke: var(--ink); stroke-width: 2; }
svg .choice text { paint-order: stroke; stroke: var(--page); stroke-width: 4px; stroke-linejoin: round; }
svg .choice .name { fill: var(--faint); font-size: 12px; }
svg .choice.frontier .name { fill: var(--ink); }
svg .choice .tip { fill: var(--ink); visibility: hidden; pointer-events: none; }
svg .choice:hover .tip, svg .choice:focus .tip { visibility: visible; }
svg .choice:hover .name, svg .choice:focus .name { visibility: hidden; }
figure { margin: 1.5rem 0 0; }
figure svg { margin: .5rem 0 0; }
figcaption { font-weight: 600; }
.pair { display: grid; gap: 0 1.5rem; }
@media (min-width: 52rem) { .pair { grid-template-columns: 1fr 1fr; } }
"""


class Size(NamedTuple):
    """Of a drawing, in pixels when it is not scaled."""

    width: float
    height: float


WIDE, NARROW = Size(960, 460), Size(476, 340)  # across the page, and half of it


@dataclass(frozen=True)
class Choice:
    """A point: its name, what it says when pointed at, and its class: frontier, original, out or none."""

    name: str
    x: float
    y: float
    says: str
    style: str = ""


@dataclass(frozen=True)
class Scale:
    """One axis: what it shows, how a tick is written, whether equal ratios take equal room."""

    label: str
    tick: Callable[[float], str] = "{:g}".format
    log: bool = False


@dataclass(frozen=True)
class Plane:
    """Both axes of a drawing, and what they show."""

    size: Size
    across: Axis
    up: Axis

    def at(self, choice: Choice) -> tuple[float, float]:
        return self.across.at(choice.x), self.up.at(choice.y)


def pareto(
    title: str,
    choices: Sequence[Choice],
    x: Scale,
    y: Scale,
    *,
    front: Sequence[Choice],
    higher: bool,
    size: Size = WIDE,
    named: Sequence[Choice] | None = None,
) -> str:
    """`front`: the choices of the frontier from left to right, joined by steps; better is up or down.

    `named`: whose names are written where there is room, None: all.
    """
    across = around([c.x for c in choices], LEFT, size.width - RIGHT, log=x.log)
    up = around([c.y for c in choices], size.height - BOTTOM, TOP, log=y.log)
    plane = Plane(size, across, up)
    names = _names(choices if named is None else named, choices, plane)
    steps = polyline(_steps(front, plane), "frontier-line", "the frontier: none is better")
    points = [_point(c, plane, names.get(c.name)) for c in choices]
    says = f"{title}: {'higher' if higher else 'lower'} and further left is better"
    drawn = drawing(*size, says, [*_grid(plane, x, y), steps, *points])
    style = ' class="wide"' if size is WIDE else ""
    return f"<figure{style}>\n<figcaption>{escape(title)}</figcaption>\n{drawn}\n</figure>\n"


def _grid(plane: Plane, x: Scale, y: Scale) -> Iterator[str]:
    across, up = plane.across, plane.up
    for value in across.ticks():
        yield line(across.at(value), up.begin, across.at(value), up.end, "grid")
        yield text(across.at(value), up.begin + 18, x.tick(value), "tick", "middle")
    for value in up.ticks():
        yield line(across.begin, up.at(value), across.end, up.at(value), "grid")
        yield text(across.begin - 8, up.at(value) + 4, y.tick(value), "tick", "end")
    yield text((across.begin + across.end) / 2, plane.size.height - 8, x.label, "label", "middle")
    middle = (up.begin + up.end) / 2
    yield text(16, middle, y.label, "label", "middle", turn=f"rotate(-90 16 {middle:.1f})")


def _steps(front: Sequence[Choice], plane: Plane) -> list[tuple[float, float]]:
    """All beyond the line is beaten by one of its corners: it runs level to the next point, then turns."""
    corners: list[tuple[float, float]] = []
    for choice in front:
        place = plane.at(choice)
        corners += [(place[0], corners[-1][1]), place] if corners else [place]
    return [*corners, (plane.across.end, corners[-1][1])] if corners else []


def _point(choice: Choice, plane: Plane, name: tuple[float, float, str] | None) -> str:
    (x, y), width = plane.at(choice), plane.size.width
    said = f"{choice.name}: {choice.says}"
    anchor = "start" if x < width / 2 - 60 else "end" if x > width / 2 + 60 else "middle"
    written = text(name[0], name[1], choice.name, "name", name[2]) if name else ""
    above = y - 14 if y > TOP + LINE else y + 24
    return (
        f'<g class="choice {choice.style}" tabindex="0" role="img" aria-label="{escape(said)}">'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>{written}'
        f"{text(x, above, said, 'tip', anchor)}</g>"
    )


def _names(
    named: Sequence[Choice], choices: Sequence[Choice], plane: Plane
) -> dict[str, tuple[float, float, str]]:
    """Name -> x, y, anchor, of the names that cover no other name and no point."""
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in map(plane.at, choices)]
    placed: dict[str, tuple[float, float, str]] = {}
    for choice in sorted(named, key=lambda choice: "frontier" not in choice.style):
        for place, box in _places(*plane.at(choice), LETTER * len(choice.name)):
            inside = box[0] >= LEFT and box[2] <= plane.across.end and box[1] >= TOP
            if inside and not any(_overlap(box, other) for other in taken):
                placed[choice.name] = place
                taken.append(box)
                break
    return placed


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _places(x: float, y: float, width: float) -> Iterator[tuple[tuple[float, float, str], Box]]:
    """Right of a point, left of it, above, below, and the four corners between."""
    near = RADIUS + 3
    for down in (4.0, -6.0, 14.0):
        yield (x + near, y + down, "start"), (x + near, y + down - 11, x + near + width, y + down + 3)
        yield (x - near, y + down, "end"), (x - near - width, y + down - 11, x - near, y + down + 3)
    for down in (-near - 3, near + 12):
        yield (x, y + down, "middle"), (x - width / 2, y + down - 11, x + width / 2, y + down + 3)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

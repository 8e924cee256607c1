"""The few shapes that the drawings are made of, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def drawing(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """One `<svg>` that scales with the page; `label` says what it shows to those who do not see it."""
    inside = "\n".join(parts)
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" role="group" aria-label="{escape(label)}">'
    return f"{opening}\n{inside}\n</svg>"


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line of a class."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, style: str, anchor: str, *, turn: str = "") -> str:
    """Words at a place; `anchor` is start, middle or end."""
    turned = f' transform="{turn}"' if turn else ""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>{escape(words)}</text>'
    )


def polyline(points: Sequence[tuple[float, float]], style: str, title: str) -> str:
    """A line through points, which says what it is when pointed at."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{places}"><title>{escape(title)}</title></polyline>'

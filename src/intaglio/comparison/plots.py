"""The three Pareto plots of a comparison: what each recipe costs, and what it gives for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from intaglio.comparison.dominance import frontier
from intaglio.comparison.result import Comparison
from intaglio.evaluation import Result
from intaglio.pages.pareto import NARROW, WIDE, Choice, Scale, Size, pareto

ORIGINAL = "original"
MB = 1e6


class View(NamedTuple):
    """Two numbers of a result, both axes, whether more of the second is better."""

    title: str
    size: Size
    numbers: Callable[[Result], tuple[float, float | None]]
    x: Scale
    y: Scale
    higher: bool
    says: str


VIEWS = (
    View(
        "Bits and perplexity",
        WIDE,
        lambda r: (r.bits_per_weight, r.perplexity),
        Scale("bits per weight, everything stored", log=True),
        Scale("perplexity", log=True),
        False,
        "{:.2f} bits, perplexity {:.2f}",
    ),
    View(
        "Size and speed",
        NARROW,
        lambda r: (r.bytes / MB, r.decode_tokens_per_s),
        Scale("size, MB", log=True),
        Scale("tokens/s, decoding", "{:,g}".format, log=True),
        True,
        "{:.1f} MB, {:.0f} tokens/s",
    ),
    View(
        "Memory and distance",
        NARROW,
        lambda r: (r.peak_rss_bytes / MB, r.kl_mean),
        Scale("peak memory, MB", "{:,g}".format, log=True),
        Scale("KL to the original, nats a token", log=True),
        False,
        "{:.0f} MB, KL {:.4f}",
    ),
)


def plots(found: Comparison) -> list[str]:
    """One drawing a view; of a view without two points none."""
    return [drawn for view in VIEWS if (drawn := _plot(view, found))]


def _plot(view: View, found: Comparison) -> str | None:
    placed = {name: place for name, r in found.measured.items() if (place := _place(view, r))}
    if not placed:
        return None
    names = [name for name in placed if not found.row(name).over_budget]
    kept = frontier([placed[name] for name in names], higher=view.higher)
    best = [names[i] for i in kept]
    choices = {name: _choice(view, found, name, place, name in best) for name, place in placed.items()}
    first = _place(view, found.original)
    extra = [Choice(ORIGINAL, *first, view.says.format(*first), "original")] if first else []
    front = [choices[name] for name in best]
    every = [*extra, *choices.values()]
    return pareto(view.title, every, view.x, view.y, front=front, higher=view.higher, size=view.size)


def _place(view: View, result: Result) -> tuple[float, float] | None:
    """Where a result stands, if it has a place on these axes: a logarithm needs more than nothing."""
    x, y = view.numbers(result)
    return None if y is None or (view.y.log and y <= 0) else (x, y)


def _choice(view: View, found: Comparison, name: str, place: tuple[float, float], front: bool) -> Choice:
    style = "out" if found.row(name).over_budget else "frontier" if front else ""
    return Choice(name, *place, view.says.format(*place), style)

"""The three Pareto plots of a comparison: what each recipe costs, and what it gives for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from intaglio.comparison.dominance import frontier
from intaglio.comparison.result import Comparison
from intaglio.evaluation import Result
from intaglio.pages.pareto import Choice, Scale, pareto

ORIGINAL = "original"
MB = 1e6


class View(NamedTuple):
    """Two numbers of a result, both axes, whether more of the second is better."""

    title: str
    numbers: Callable[[Result], tuple[float, float | None]]
    x: Scale
    y: Scale
    higher: bool
    says: str


VIEWS = (
    View(
        "Bits and perplexity",
        lambda r: (r.bits_per_weight, r.perplexity),
        Scale("bits per weight, everything stored"),
        Scale("perplexity", log=True),
        False,
        "{:.2f} bits, perplexity {:.2f}",
    ),
    View(
        "Size and speed",
        lambda r: (r.bytes / MB, r.decode_tokens_per_s),
        Scale("size, MB"),
        Scale("tokens/s, decoding"),
        True,
        "{:.1f} MB, {:.0f} tokens/s",
    ),
    View(
        "Memory and distance",
        lambda r: (r.peak_rss_bytes / MB, r.kl_mean),
        Scale("peak memory, MB"),
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
    return pareto(view.title, [*extra, *choices.values()], view.x, view.y, front=front, higher=view.higher)


def _place(view: View, result: Result) -> tuple[float, float] | None:
    """Where a result stands, if it has a place on these axes: a logarithm needs more than nothing."""
    x, y = view.numbers(result)
    return None if y is None or (view.y.log and y <= 0) else (x, y)


def _choice(view: View, found: Comparison, name: str, place: tuple[float, float], front: bool) -> Choice:
    style = "out" if found.row(name).over_budget else "frontier" if front else ""
    return Choice(name, *place, view.says.format(*place), style)

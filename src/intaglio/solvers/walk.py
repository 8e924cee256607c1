"""Walk: error feedback by whole groups of inputs, each on a grid that is fitted when its turn comes.

With H^-1 = U^T U, as in `solvers/obs.py`; in whatever order, a group's inputs stay together, so that its
weights are all up to date when it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from intaglio.formats import Bilevel, Integer, TwoLevel
from intaglio.lazy import lazy
from intaglio.solvers.obs import inverse_factor

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Order: TypeAlias = Literal["natural", "activation"]
Tables: TypeAlias = "dict[str, Tensor]"
Visit: TypeAlias = "Callable[[int, Tensor], Tensor]"  # an input's place in the order, its weights (out,)


class Span(NamedTuple):
    """Where the inputs of a group stand in the order."""

    group: int
    begin: int
    end: int


@dataclass(frozen=True)
class Walk:
    """`order` (in,) of the inputs, U in that order and the damp it took; groups that are updated together."""

    order: Tensor
    factor: Tensor
    damp: float
    blocks: list[list[Span]]

    @classmethod
    def over(cls, h: Tensor, size: int, damp: float, block: int, order: Order) -> Walk:
        """Of H (in, in), groups of `size` inputs and blocks of about `block`.

        `order`: groups with the most power first, and in a group inputs with the most, or all as stored.
        """
        groups = _groups(h.diagonal(), size, order)
        inputs = torch.cat([inputs for _, inputs in groups])
        factor, damp = inverse_factor(h[inputs][:, inputs], damp)
        return cls(inputs, factor, damp, _blocks(groups, max(1, block // size)))

    @property
    def cost(self) -> Tensor:
        """Of an error of 1 that later inputs make up for, (in,) in the order."""
        return self.factor.diagonal().square().reciprocal()

    def stored(self, x: Tensor) -> Tensor:
        """x (in, ...) in the order -> as inputs are stored."""
        return x[torch.argsort(self.order)]

    def run(self, w: Tensor, begin: Callable[[Span, Tensor], Visit]) -> None:
        """Visits every input of W (out, in): the errors that are returned move the inputs after it.

        `begin` is handed a group's weights as they are by then, (inputs, out).
        """
        x = w.t()[self.order].contiguous()  # (in, out): an input is one row here
        for block in self.blocks:
            first, end = block[0].begin, block[-1].end
            errors = torch.empty(end - first, x.shape[1])
            for span in block:
                visit = begin(span, x[span.begin : span.end])
                for i in range(span.begin, span.end):
                    error = errors[i - first] = visit(i, x[i]) / self.factor[i, i]
                    x[i + 1 : end].addr_(self.factor[i, i + 1 : end], error, alpha=-1)
            x[end:].addmm_(self.factor[first:end, end:].t(), errors, alpha=-1)


@dataclass(frozen=True)
class MovingGrid:
    """A format whose `tables` are filled in group by group; `shrink` as it fits with."""

    fmt: Integer | TwoLevel | Bilevel
    tables: Tables
    shrink: Tensor | None

    def fit(
        self, group: int, x: Tensor, refined: Callable[[Tables], Tables] = lambda tables: tables
    ) -> Column:
        """The grid of a group for weights x (inputs, out), whose own tables may be `refined`."""
        at = slice(group, group + 1)
        shrink = None if self.shrink is None else self.shrink[:, at]
        fitted = refined(self.fmt.fit_groups(x.t(), self.tables, shrink=shrink))
        for name, values in fitted.items():
            self.tables[name][:, at] = values
        grid = self.fmt.grid({**self.tables, **fitted})
        return Column(grid.step[:, 0] * grid.row[:, 0], grid.zero[:, 0], grid.low[:, 0], grid.high[:, 0])


class Column(NamedTuple):
    """The grid of one group, (out,) each."""

    step: Tensor
    zero: Tensor
    low: Tensor
    high: Tensor

    def round(self, column: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of one input's weights (out,), and by how much they miss."""
        codes = (column / self.step).add_(self.zero).round_().clamp_(self.low, self.high)
        return codes, column - (codes - self.zero) * self.step


def _groups(power: Tensor, size: int, order: Order) -> list[tuple[int, Tensor]]:
    """Number and inputs of each group, in the order in which they are rounded."""
    starts = range(0, len(power), size)
    groups = [(g, torch.arange(i, min(i + size, len(power)))) for g, i in enumerate(starts)]
    if order == "natural":
        return groups
    loudest = [(g, i[torch.argsort(power[i], descending=True, stable=True)]) for g, i in groups]
    return sorted(loudest, key=lambda group: -float(power[group[1]].mean()))


def _blocks(groups: list[tuple[int, Tensor]], together: int) -> list[list[Span]]:
    spans: list[Span] = []
    for number, inputs in groups:
        begin = spans[-1].end if spans else 0
        spans.append(Span(number, begin, begin + len(inputs)))
    return [spans[i : i + together] for i in range(0, len(spans), together)]

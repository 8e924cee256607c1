"""Which elements of a matrix are kept: of a pattern those whose loss costs most. Ties go to the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.sequence import Found
from intaglio.terms import NM, Metric, Sparse

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Pattern = NM | Sparse


def dearest_of_blocks(costs: Tensor, n: int, m: int) -> Tensor:
    """True for the n of every m neighbouring columns that cost most; costs (out, in) -> bool (out, in)."""
    blocks = torch.nn.functional.pad(costs, (0, -costs.shape[1] % m), value=-1).reshape(len(costs), -1, m)
    chosen = torch.sort(blocks, dim=2, descending=True, stable=True).indices[:, :, :n]
    kept = torch.zeros_like(blocks, dtype=torch.bool).scatter_(2, chosen, True)
    return kept.reshape(len(costs), -1)[:, : costs.shape[1]]


def dearest_share(costs: Tensor, share: float, *, of_rows: bool) -> Tensor:
    """True for the share of all elements, or of each row's, that cost most: bool (out, in)."""
    compared = costs if of_rows else costs.reshape(1, -1)
    count = max(1, round(share * compared.shape[1]))
    chosen = torch.sort(compared, dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(compared, dtype=torch.bool).scatter_(1, chosen, True).reshape(costs.shape)


def view(w: Tensor, term: Pattern, metric: Metric, *, of_rows: bool = True) -> Found:
    """The elements of W (out, in) with the most w^2 E[x^2] in the term's pattern, as they are.

    Under the identity this is the pattern's closest matrix to W; under a diagonal metric Wanda's choice
    (2306.11695), which compares the elements of a row with one another (`of_rows`), not with all.
    """
    costs = metric.weigh(w.square())
    if isinstance(term, NM):
        kept = dearest_of_blocks(costs, term.n, term.m)
    else:
        kept = dearest_share(costs, term.share, of_rows=of_rows)
    return stored(w * kept, term)


def stored(kept: Tensor, term: Pattern) -> Found:
    """A matrix (out, in) of the term's pattern, zero where nothing is kept."""
    return Found(term.layout.store(to_numpy(kept)), {})

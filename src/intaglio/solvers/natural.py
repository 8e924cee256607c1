"""The natural way to find each kind of term, when a solver has none of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from intaglio.solvers.clip import Clip
from intaglio.solvers.codebook import best_table
from intaglio.solvers.dictionary import blockwise, shared
from intaglio.solvers.groups import salient
from intaglio.solvers.learning import Learning
from intaglio.solvers.low_rank import best_rank
from intaglio.solvers.nearest import nearest
from intaglio.solvers.outliers import largest
from intaglio.solvers.patterns import view
from intaglio.solvers.sequence import Found
from intaglio.solvers.trits import trit_planes
from intaglio.terms import (
    NM,
    Codebook,
    Dense,
    DenseSparse,
    Dictionary,
    GroupSparse,
    LowRank,
    Metric,
    Outliers,
    Sparse,
    Term,
    TritPlanes,
)
from intaglio.types import State

if TYPE_CHECKING:
    from intaglio.types import Tensor


def guided(terms: Sequence[Term], clip: Clip | None) -> bool:
    """Whether the metric changes what `natural` finds."""
    return (clip is not None and clip.enabled) or not all(isinstance(term, Dense) for term in terms)


@runtime_checkable
class Fits(Protocol):
    """A term that knows how it is found."""

    def fit(self, w: Tensor, metric: Metric) -> State:
        """Its arrays for W (out, in) float32."""
        ...


def natural(w: Tensor, term: Term, metric: Metric, clip: Clip | None) -> Found:
    """W (out, in) float32 as one term."""
    if isinstance(term, Fits):
        return Found(term.fit(w, metric), {})
    match term:
        case Dense():
            return nearest(w, term.format, metric, clip)
        case Outliers():
            return largest(w, term, metric)
        case LowRank():
            return best_rank(w, term, metric)
        case Codebook():
            return best_table(w, term, metric)
        case TritPlanes():
            return trit_planes(w, term, metric)
        case GroupSparse():
            return salient(w, term, metric, clip, metric.diagonal(w.shape[1]), "row")
        case Dictionary():
            return shared(w, term, metric, Learning())
        case DenseSparse():
            return blockwise(w, term, metric, Learning())
        case NM() | Sparse():
            return view(w, term, metric)

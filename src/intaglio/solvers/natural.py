"""The natural way to find each kind of term, when a solver has none of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.solvers.clip import Clip
from intaglio.solvers.low_rank import best_rank
from intaglio.solvers.nearest import nearest
from intaglio.solvers.outliers import largest
from intaglio.solvers.patterns import view
from intaglio.solvers.sequence import Found
from intaglio.terms import NM, Dense, LowRank, Metric, Outliers, Sparse, Term

if TYPE_CHECKING:
    from intaglio.types import Tensor


def natural(w: Tensor, term: Term, metric: Metric, clip: Clip | None) -> Found:
    """W (out, in) float32 as one term."""
    match term:
        case Dense():
            return nearest(w, term.format, metric, clip)
        case Outliers():
            return largest(w, term, metric)
        case LowRank():
            return best_rank(w, term, metric)
        case NM() | Sparse():
            return view(w, term, metric)

"""KMeans: tables of free values where the metric says errors cost, and the few worst elements apart.

SqueezeLLM (2306.07629): the metric is the diagonal Fisher information of the model's loss (`metric: fisher`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.formats import Csr
from intaglio.formats.arrays import to_numpy
from intaglio.solvers.clip import Clip
from intaglio.solvers.codebook import ITERATIONS, STARTS, best_table
from intaglio.solvers.natural import natural
from intaglio.solvers.outliers import sensitive_and_large
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import Codebook, Metric, Outliers, Term

if TYPE_CHECKING:
    from intaglio.types import Tensor


class KMeans(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="kmeans"
):
    """Weighted k-means of each row for a codebook; of other terms see `natural`.

    Outliers followed by a codebook are found together: `sensitive` of all elements because they weigh most,
    the rest of the outliers' share by size. They weigh nothing in the k-means, and what is stored of them is
    what their entry of the table misses, so that the sum is exact but for float16.
    """

    iterations: Annotated[int, msgspec.Meta(ge=1, le=1000)] = ITERATIONS
    starts: Annotated[int, msgspec.Meta(ge=1, le=100)] = STARTS
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    sensitive: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0005

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, or the outliers that begin them with the codebook after, for W (out, in)."""
        match terms:
            case [Outliers() as sparse, Codebook() as dense, *_]:
                return self._apart(w, sparse, dense, metric)
            case [Codebook() as term, *_]:
                return (self._table(w, term, metric),)
            case _:
                return (natural(w, terms[0], metric, clip),)

    def _apart(self, w: Tensor, sparse: Outliers, dense: Codebook, metric: Metric) -> tuple[Found, Found]:
        """Outliers, and the codebook of the others."""
        taken = sensitive_and_large(w, sparse.share, self.sensitive, metric)
        found = self._table(w, dense, metric, taken)
        missed = (w - dense.decode(found.state, (w.shape[0], w.shape[1]))) * taken
        return Found(Csr().store(to_numpy(missed)), {"outliers": float(taken.float().mean())}), found

    def _table(self, w: Tensor, term: Codebook, metric: Metric, left_out: Tensor | None = None) -> Found:
        return best_table(
            w, term, metric, left_out=left_out, starts=self.starts, iterations=self.iterations, seed=self.seed
        )

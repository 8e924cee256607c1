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
from intaglio.solvers.codebook import best_table
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

    sensitive: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0005

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, or the outliers that begin them with the codebook after, for W (out, in)."""
        match terms:
            case [Outliers() as sparse, Codebook() as dense, *_]:
                return self._apart(w, sparse, dense, metric)
            case [Codebook() as term, *_]:
                return (best_table(w, term, metric),)
            case _:
                return (natural(w, terms[0], metric, clip),)

    def _apart(self, w: Tensor, sparse: Outliers, dense: Codebook, metric: Metric) -> tuple[Found, Found]:
        """Outliers, and the codebook of the others."""
        taken = sensitive_and_large(w, sparse.share, self.sensitive, metric)
        found = best_table(w, dense, metric, taken)
        missed = (w - dense.decode(found.state, (w.shape[0], w.shape[1]))) * taken
        return Found(Csr().store(to_numpy(missed)), {"outliers": float(taken.float().mean())}), found

"""Hqq: zero points by half-quadratic optimization, without data (HQQ, mobiusml.github.io/hqq_blog; MiLo, 2504.02658)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.formats import Activation, Integer, groups
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, in_sequence
from intaglio.terms import Coded, Dense, Metric, Term

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Hqq(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="hqq"):
    """min over zero and e of |e|_p^p + beta/2 |w - decoded - e|^2, in turn: e takes what should count little.

    Scales stay as fitted. With p < 1 the few large errors weigh less than squares would have them. Terms without a
    zero point are found the natural way, blind to the inputs: no text is read.
    """

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    beta: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    growth: Annotated[float, msgspec.Meta(ge=1)] = 1.01

    def solve(
        self,
        w: Tensor,
        terms: Sequence[Term],
        metric: Metric,
        *,
        clip: Clip | None = None,
        activation: Activation | None = None,
        bias: Tensor | None = None,
        name: str = "matrix",
    ) -> Coded:
        """W (out, in) as the sum of `terms`."""

        def find(rest: Tensor, term: Term) -> Found:
            return self.find(rest, term, clip)

        return in_sequence(w, terms, metric, find, activation=activation, bias=bias, name=name)

    def find(self, w: Tensor, term: Term, clip: Clip | None = None) -> Found:
        """W (out, in) as one term."""
        if not (isinstance(term, Dense) and isinstance(term.format, Integer) and not term.format.symmetric):
            return natural(w, term, Metric(), clip)
        shrink = clip.search(w, term.format, Metric()) if clip else None
        tables = self.moved(w, term.format, term.format.fit(w, shrink=shrink))
        return Found(term.format.pack(term.format.encode(w, tables), tables), {})

    def moved(self, w: Tensor, fmt: Integer, tables: dict[str, Tensor]) -> dict[str, Tensor]:
        """`tables` with the zeros, as they are stored, that left the smallest mean error; stops when it no longer falls."""
        size, beta, least = fmt.group_size, self.beta, torch.inf
        best, count = tables, _sizes(w, size)
        scale = tables["scale"].float()[:, :, None]
        for _ in range(self.steps):
            codes = fmt.encode(w, tables)
            error = w - fmt.decode(codes, tables)
            if (mean := float(error.abs().mean())) >= least:
                break
            best, least = tables, mean
            shift = (
                groups.split(error - shrunk(error, beta, self.p), size) / scale
            )  # 0 where a short group ends
            zero = tables["zero"].float() - shift.sum(2) / count
            tables, beta = {**tables, "zero": fmt.stored_zero(zero)}, beta * self.growth
        return best


def shrunk(x: Tensor, beta: float, p: float) -> Tensor:
    """The e that minimises |e|^p + beta/2 (x - e)^2, nearly: sign(x) max(0, |x| - |x|^(p-1) / beta)."""
    size = x.abs()
    return x.sign() * (size - size.pow(p - 1) / beta).clamp(min=0)  # 0^(p-1) is infinite, and shrinks to 0


def _sizes(w: Tensor, size: int | None) -> Tensor:
    """Columns of each group, (1, groups)."""
    return groups.split(torch.ones(1, w.shape[1]), size).sum(2)

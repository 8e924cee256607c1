"""Hqq: zero points by half-quadratic optimization, without data (HQQ; as in MiLo, 2504.02658)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.formats import Integer, groups
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import Dense, Metric, Term

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

NEARLY = 0.999  # of a bound that is itself rounded
ROWS = 128  # handled at once, so that they stay in the cache from step to step


class Hqq(InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="hqq"):
    """min over zero and e of |e|_p^p + beta/2 |w - decoded - e|^2, in turn: e takes what should count little.

    Scales stay as fitted. With p < 1 the few large errors weigh less than squares would have them. Terms
    without a zero point are found the natural way, blind to the inputs: no text is read.
    """

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    beta: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    growth: Annotated[float, msgspec.Meta(ge=1)] = 1.01

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in); the metric is not looked at."""
        term = terms[0]
        if not (isinstance(term, Dense) and isinstance(term.format, Integer) and not term.format.symmetric):
            return (natural(w, term, Metric(), clip),)
        shrink = clip.search(w, term.format, Metric()) if clip else None
        tables = term.format.fit(w, shrink=shrink)
        scale, zero = tables["scale"], tables["zero"]
        parts = [slice(begin, begin + ROWS) for begin in range(0, len(w), ROWS)]
        tables["zero"] = torch.cat([self.moved(term.format, w[p], scale[p], zero[p]) for p in parts])
        return (Found(term.format.pack(term.format.encode(w, tables), tables), {}),)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """No."""
        return False

    def moved(self, fmt: Integer, w: Tensor, scale: Tensor, stored: Tensor) -> Tensor:
        """Stored zeros from `stored` on: those of the least mean error, once it falls no more."""
        x, real = (groups.split(t, fmt.group_size) for t in (w, torch.ones(1, w.shape[1])))
        scale, count = scale.float()[:, :, None], real.sum(2)
        best, least, beta = stored, torch.inf, self.beta
        for _ in range(self.steps):
            zero = stored.float()[:, :, None]
            codes = (x / scale).add_(zero).round_().clamp_(0, fmt.highest)
            error = torch.sub(x, codes.sub_(zero).mul_(scale)).mul_(real)
            if (mean := float(error.abs().mean())) >= least:
                break
            best, least = stored, mean
            shift = error.sub_(shrunk(error, beta, self.p)).sum(2) / scale[:, :, 0] / count
            stored, beta = fmt.stored_zero(stored.float() - shift), beta * self.growth
        return best


def shrunk(x: Tensor, beta: float, p: float) -> Tensor:
    """The e that minimises |e|^p + beta/2 (x - e)^2, nearly: sign(x) max(0, |x| - |x|^(p-1) / beta).

    Powers are taken of the few that are not 0 by it: |x|^(2-p) > 1 / beta.
    """
    found = torch.zeros_like(x)
    large = x.abs() > NEARLY * beta ** (1 / (p - 2))
    if large.any():
        size = x[large].abs()
        found[large] = size.sub_(size.pow(p - 1).div_(beta)).clamp_(min=0).copysign_(x[large])
    return found

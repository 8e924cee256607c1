"""Clip: how far to narrow each group's range, by the error it causes in the layer's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.formats import Floating, Format, groups
from intaglio.formats.rows import parts
from intaglio.lazy import lazy
from intaglio.terms import Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Clip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tries `steps` shares of a group's own range, from 1 down to `lowest`."""

    enabled: bool = True
    steps: Annotated[int, msgspec.Meta(ge=1, le=256)] = 10
    lowest: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.55

    def search(self, w: Tensor, fmt: Format, metric: Metric) -> Tensor | None:
        """The best share of each group's range, (out, groups) in (0, 1].

        The error of a group is d^T H_gg d: what the partial dot product of the group with the inputs loses,
        averaged over all calibration tokens. No group does worse than unclipped. None: nothing to clip.
        """
        if not self.enabled or isinstance(fmt, Floating):
            return None
        return torch.cat([self._search(w[rows], fmt, metric.of_rows(rows)) for rows in parts(w)])

    def _search(self, w: Tensor, fmt: Format, metric: Metric) -> Tensor:
        assert not isinstance(fmt, Floating)
        chosen = torch.ones(len(w), groups.count(w.shape[1], fmt.group_size))
        best = _errors(w, fmt, metric, chosen)
        for ratio in torch.linspace(1, self.lowest, self.steps)[1:].tolist():
            errors = _errors(w, fmt, metric, torch.full_like(chosen, ratio))
            chosen[errors < best] = ratio
            best = torch.minimum(best, errors)
        return chosen


def _errors(w: Tensor, fmt: Format, metric: Metric, shrink: Tensor) -> Tensor:
    """Each group's error when ranges are narrowed by `shrink`, (out, groups)."""
    assert not isinstance(fmt, Floating)
    tables = fmt.fit(w, shrink=shrink)
    delta = fmt.decode(fmt.encode(w, tables), tables) - w
    size = fmt.group_size or w.shape[1]
    parts = [
        metric.block(begin, begin + size).rows(delta[:, begin : begin + size])
        for begin in range(0, w.shape[1], size)
    ]
    return torch.stack(parts, dim=1)

"""Reorder: channels of like salience side by side, so that they share a group.   Used by: qserve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from intaglio.lazy import lazy
from intaglio.models.spec import ModelSpec
from intaglio.transforms.fold import permute, share

if TYPE_CHECKING:
    import torch

    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
else:
    torch = lazy("torch", extra="compress")


class Reorder(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="reorder"
):
    """Inputs of down sorted by max|x| ascending (rows of gate and up follow); those of o within each head.

    Nothing is gathered at run time. Query heads that share a V head share its order. The residual stream,
    which all layers share, keeps its own.
    """

    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        return None

    def omits(self, spec: ModelSpec) -> str | None:
        return None

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        return w

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        middle = observation.absmax("down_in").argsort(stable=True)
        heads = share(spec, "o_in", observation.absmax("o_in")).reshape(-1, spec.head_dim)
        start = torch.arange(spec.num_kv_heads)[:, None] * spec.head_dim
        inside = heads.argsort(dim=1, stable=True)
        return permute(spec, permute(spec, w, "down_in", middle), "o_in", (inside + start).flatten())

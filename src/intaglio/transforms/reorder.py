"""Reorder: channels of like salience side by side, so that they share a group.   Used by: qserve, atom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from intaglio.lazy import lazy
from intaglio.models.spec import ModelSpec
from intaglio.transforms.fold import permute, share

if TYPE_CHECKING:
    import torch

    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Reorder(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="reorder"
):
    """Inputs of down sorted by salience ascending (rows of gate and up follow); those of o within each head.

    Salience is max|x| or power, the mean of x^2. Nothing is gathered at run time. Query heads that share a V
    head share its order. The residual stream, which all layers share, keeps its own.
    """

    by: Literal["max", "power"] = "max"
    roles: tuple[Literal["o", "down"], ...] = ("o", "down")
    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        return None

    def omits(self, spec: ModelSpec) -> str | None:
        return None

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        return w

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        if "down" in self.roles:
            w = permute(spec, w, "down_in", self._salience("down_in", observation).argsort(stable=True))
        if "o" in self.roles:
            heads = share(spec, "o_in", self._salience("o_in", observation)).reshape(-1, spec.head_dim)
            start = torch.arange(spec.num_kv_heads)[:, None] * spec.head_dim
            w = permute(spec, w, "o_in", (heads.argsort(dim=1, stable=True) + start).flatten())
        return w

    def _salience(self, point: str, observation: Observation) -> Tensor:
        return observation.absmax(point) if self.by == "max" else observation.hessian(point).diagonal()

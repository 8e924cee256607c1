"""SmoothOutput: the outliers in what o and down read, moved into their weights.   Used by: qserve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from intaglio.models.spec import ModelSpec
from intaglio.transforms.fold import balance, divide, key, share

if TYPE_CHECKING:
    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor

Strength = Annotated[float, msgspec.Meta(ge=0, le=1)]


class SmoothOutput(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="smooth_output",
):
    """s[c] = max|x[c]|^alpha / max|W[:, c]|^beta; x / s by the producer (v, up), W * s in o and down.

    Query heads that share a V head share s. After a rotation of the V heads there is little to gain at o:
    leave it out with `roles: [down]`.
    """

    alpha: Strength = 0.3
    beta: Strength = 0.7
    roles: tuple[Literal["o", "down"], ...] = ("o", "down")
    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        return None

    def omits(self, spec: ModelSpec) -> str | None:
        return None

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        return w

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        for role in self.roles:
            w = divide(spec, w, f"{role}_in", self._scale(spec, role, w, observation))
        return w

    def _scale(self, spec: ModelSpec, role: str, w: Weights, observation: Observation) -> Tensor:
        point, weight = f"{role}_in", w[key(role)]
        x = share(spec, point, observation.absmax(point).to(weight))
        return balance(x, share(spec, point, weight.abs().amax(0)), self.alpha, self.beta)

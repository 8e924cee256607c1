"""SmoothInput: outliers of what norms put out, moved into the weights.   Used by: smoothquant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from intaglio.lazy import lazy
from intaglio.models.roles import INPUTS
from intaglio.models.spec import ModelSpec
from intaglio.transforms.fold import balance, divide, has_producer, key
from intaglio.transforms.smooth import Strength

if TYPE_CHECKING:
    import torch

    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
else:
    torch = lazy("torch", extra="compress")


class SmoothInput(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="smooth_input",
):
    """s[c] = max|x[c]|^alpha / max|W[:, c]|^(1 - alpha), W all that reads x; x / s in the norm's gain, W * s.

    SmoothQuant, 2211.10438: what q, k, v and what gate, up read.
    """

    alpha: Strength = 0.5
    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        return None if has_producer(spec, "mlp_in") else f"{spec.architecture} has no norm before its linears"

    def omits(self, spec: ModelSpec) -> str | None:
        return None

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        return w

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        for point in ("attention_in", "mlp_in"):
            columns = torch.stack([w[key(role)].abs().amax(0) for role in INPUTS[point]]).amax(0)
            x = observation.absmax(point).to(columns)
            w = divide(spec, w, point, balance(x, columns, self.alpha, 1 - self.alpha))
        return w

"""How a compressed model is executed, in plain torch: the definition the integer executor is tested against.

Inputs of a linear are rounded to the integers its `activation` names, or thinned, each token by itself; keys
and values are what a codec gives back, and where that codec has few bits, queries are rounded to 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from intaglio.formats import Integer
from intaglio.formats.rounding import rounded
from intaglio.lazy import lazy
from intaglio.models import roles
from intaglio.models.transformer import Tap, block, embed, head, layer_weights, outer_weights
from intaglio.terms import Reading

if TYPE_CHECKING:
    import torch

    from intaglio.models.checkpoint import Checkpoint
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Codec(Protocol):
    """How keys and values are remembered, as attention.Affine and attention.Half do it."""

    @property
    def bits(self) -> int:
        """Of a code; 16 is a plain float."""
        ...

    def roundtrip(self, x: Tensor) -> Tensor:
        """What will be read back of x (..., head_dim)."""
        ...


def forward(checkpoint: Checkpoint, tokens: Tensor, *, kv: Codec | None = None) -> Tensor:
    """tokens (b, t) -> logits (b, t, vocab) float32, as the executor has them. `kv` None: exact."""
    spec = checkpoint.spec
    with torch.no_grad():
        outer = outer_weights(checkpoint)
        x = embed(spec, outer, tokens)
        for layer in range(spec.num_layers):
            tap = rounding(layer_readings(checkpoint, layer), kv)
            x = block(spec, layer, layer_weights(checkpoint, layer), x, tap=tap)
        return head(spec, outer, x, tap=rounding({"head_in": _head_reading(checkpoint)}))


def rounding(readings: Mapping[str, Reading], kv: Codec | None = None) -> Tap:
    """A tap that rounds: what `point` reads as `readings[point]` says, keys and values through `kv`."""

    def tap(point: str, x: Tensor) -> Tensor:
        if point in ("key", "value"):
            return x if kv is None else kv.roundtrip(x)
        if point == "query":
            return x if kv is None or kv.bits >= 16 else round_tokens(x, 8)
        return readings.get(point, Reading())(x)

    return tap


def round_tokens(x: Tensor, bits: int) -> Tensor:
    """x (..., n) on a symmetric grid of 2^bits - 1 steps, one scale max|x| / (2^(bits-1) - 1) a token."""
    return rounded(x, Integer(bits, symmetric=True))


def layer_readings(checkpoint: Checkpoint, layer: int) -> dict[str, Reading]:
    """What a layer's points are rounded to."""
    return by_point({role: checkpoint.linears[roles.site(layer, role)].reading for role in roles.LINEARS})


def by_point(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """From what each role makes of its input to what each point becomes; where readers differ, the roles."""
    found: dict[str, Reading] = {}
    for point, readers in roles.INPUTS.items():
        each = {role: readings[role] for role in readers}
        found |= {point: each[readers[0]]} if len(set(each.values())) == 1 else each
    return found


def _head_reading(checkpoint: Checkpoint) -> Reading:
    return checkpoint.linears[roles.HEAD if roles.HEAD in checkpoint.linears else roles.EMBEDDING].reading

"""How a compressed model is executed, in plain torch: the definition the integer executor is tested against.

Inputs of a linear are rounded to the integers its `activation` names, one scale a token, or thinned; keys
and values are what a codec gives back, and where that codec has few bits, queries are rounded to 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from intaglio.formats import Activation, Integer, Largest
from intaglio.lazy import lazy
from intaglio.models import roles
from intaglio.models.transformer import Tap, block, embed, head, layer_weights, outer_weights

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
            tap = rounding(layer_activations(checkpoint, layer), kv)
            x = block(spec, layer, layer_weights(checkpoint, layer), x, tap=tap)
        return head(spec, outer, x, tap=rounding({"head_in": _head_activation(checkpoint)}))


def rounding(activations: Mapping[str, Activation | None], kv: Codec | None = None) -> Tap:
    """A tap that rounds: what `point` reads to `activations[point]`, keys and values through `kv`."""

    def tap(point: str, x: Tensor) -> Tensor:
        if point in ("key", "value"):
            return x if kv is None else kv.roundtrip(x)
        if point == "query":
            return x if kv is None or kv.bits >= 16 else round_tokens(x, 8)
        activation = activations.get(point)
        return read_as(x, activation)

    return tap


def read_as(x: Tensor, activation: Activation | None) -> Tensor:
    """What linears of this activation read of x (..., n)."""
    match activation:
        case None:
            return x
        case Largest():
            return keep_largest(x, activation.n, activation.m)
        case Integer():
            return round_tokens(x, activation.bits)


def keep_largest(x: Tensor, n: int, m: int) -> Tensor:
    """Of every m of x (..., cols) the n largest in size, of equal ones the first; the rest 0."""
    sizes = torch.nn.functional.pad(x.abs(), (0, -x.shape[-1] % m), value=-1)
    sizes = sizes.reshape(*x.shape[:-1], -1, m)
    chosen = torch.sort(sizes, dim=-1, descending=True, stable=True).indices[..., :n]
    kept = torch.zeros_like(sizes).scatter_(-1, chosen, 1).flatten(-2)[..., : x.shape[-1]]
    return x * kept


def round_tokens(x: Tensor, bits: int) -> Tensor:
    """x (..., n) on a symmetric grid of 2^bits - 1 steps, one scale max|x| / (2^(bits-1) - 1) a token."""
    highest = (1 << (bits - 1)) - 1
    largest = x.abs().amax(-1, keepdim=True)
    return (x * (highest / torch.where(largest == 0, 1.0, largest))).round() * (largest / highest)


def layer_activations(checkpoint: Checkpoint, layer: int) -> dict[str, Activation | None]:
    """What a layer's points are rounded to."""
    return by_point({role: checkpoint.linears[roles.site(layer, role)].activation for role in roles.LINEARS})


def by_point(activations: Mapping[str, Activation | None]) -> dict[str, Activation | None]:
    """From what each role reads to what each point is rounded to; where its readers differ, the roles."""
    found: dict[str, Activation | None] = {}
    for point, readers in roles.INPUTS.items():
        formats = {role: activations[role] for role in readers}
        found |= {point: formats[readers[0]]} if len(set(formats.values())) == 1 else formats
    return found


def _head_activation(checkpoint: Checkpoint) -> Activation | None:
    return checkpoint.linears[roles.HEAD if roles.HEAD in checkpoint.linears else roles.EMBEDDING].activation

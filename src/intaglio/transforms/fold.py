"""A block's edges: what produces the input of a linear, so that a change of one is undone in the other.

    point          producer              consumers        between them
    attention_in   pre-attention norm    q, k, v          nothing
    o_in           v                     o                attention, which mixes tokens and not channels
    mlp_in         pre-mlp norm          gate, up         nothing
    down_in        up                    down             act(gate) * up, linear in up

Under grouped-query attention a channel of v feeds one channel of o for every query head that shares it:
`share` reduces a vector of o's input channels to v's channels, `spread` repeats it back.
No function changes the dict or the tensors it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.lazy import lazy
from intaglio.models.roles import INPUTS, LINEARS, NORMS
from intaglio.models.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

PRODUCER = {"attention_in": "pre_attention_norm", "o_in": "v", "mlp_in": "pre_mlp_norm", "down_in": "up"}


def key(role: str, part: str = "weight") -> str:
    """Name of a tensor inside a layer: `key("q", "bias") == "self_attn.q_proj.bias"`."""
    return f"{LINEARS.get(role) or NORMS[role]}.{part}"


def present(w: Weights, role: str) -> tuple[str, ...]:
    """Names of the weight and, if there is one, the bias of `role`."""
    return tuple(name for name in (key(role), key(role, "bias")) if name in w)


def has_producer(spec: ModelSpec, point: str) -> bool:
    """Whether something stands before `point` that a scale can be folded into (OLMo2 has no pre-norms)."""
    return spec.pre_norm or PRODUCER[point] not in NORMS


def divide(spec: ModelSpec, w: Weights, point: str, by: Tensor) -> Weights:
    """The activations at `point` become x / by, the function stays. `by` (producer's channels), positive."""
    by = by.to(w[key(PRODUCER[point])])  # before 1 / by: a reciprocal rounded elsewhere would not cancel
    columns = spread(spec, point, by)
    consumers = {key(role): w[key(role)] * columns for role in INPUTS[point]}
    return {**w, **scaled_rows(w, PRODUCER[point], 1 / by), **consumers}


def permute(spec: ModelSpec, w: Weights, point: str, order: Tensor) -> Weights:
    """The activations at `point` become x[order], the function stays. `order` (producer's channels).

    Only `o_in`, within heads, and `down_in`: the residual stream is never reordered.
    """
    producers = ("gate", "up") if point == "down_in" else ("v",)
    rows = {name: w[name][order] for role in producers for name in present(w, role)}
    columns = _spread_order(spec, order) if point == "o_in" else order
    consumers = {key(role): w[key(role)][:, columns] for role in INPUTS[point]}
    return {**w, **rows, **consumers}


def absorb_gain(w: Weights, point: str) -> Weights:
    """The norm before `point` becomes all ones, its gain goes into the columns of the consumers."""
    norm = key(PRODUCER[point])
    gain = w[norm]
    scaled = {key(role): w[key(role)] * gain for role in INPUTS[point]}
    return {**w, **scaled, norm: torch.ones_like(gain)}


def scaled_rows(w: Weights, role: str, by: Tensor) -> Weights:
    """What `role` puts out times `by`: its rows and bias, or the gain of a norm."""
    return {name: w[name] * (by[:, None] if w[name].dim() == 2 else by) for name in present(w, role)}


def share(spec: ModelSpec, point: str, x: Tensor) -> Tensor:
    """Largest over the consumer's channels that one producer's channel feeds: (in,) -> (produced,)."""
    return by_head(spec, x).amax(1).flatten() if point == "o_in" else x


def spread(spec: ModelSpec, point: str, x: Tensor) -> Tensor:
    """A vector of the producer's channels for each of the consumer's: (produced,) -> (in,)."""
    return repeat_heads(spec, x) if point == "o_in" else x


def by_head(spec: ModelSpec, x: Tensor) -> Tensor:
    """(heads * head_dim,) -> (kv_heads, query heads of each, head_dim)."""
    return x.reshape(spec.num_kv_heads, -1, spec.head_dim)


def repeat_heads(spec: ModelSpec, x: Tensor) -> Tensor:
    """(kv_heads * head_dim,) -> (heads * head_dim,), each head for every query head that shares it."""
    return by_head(spec, x).expand(-1, spec.num_heads // spec.num_kv_heads, -1).flatten()


def _spread_order(spec: ModelSpec, order: Tensor) -> Tensor:
    """A permutation of v's channels within their heads -> the same one for every query head of o's input."""
    start = torch.arange(spec.num_heads).repeat_interleave(spec.head_dim) * spec.head_dim
    return repeat_heads(spec, order % spec.head_dim) + start


def balance(x: Tensor, y: Tensor, alpha: float, beta: float) -> Tensor:
    """x^alpha / y^beta, channels where either is 0 get 1; the others have geometric mean 1 (last axis)."""
    alive = (x > 0) & (y > 0)
    log = alpha * x.where(alive, 1).log() - beta * y.where(alive, 1).log()
    mean = log.sum(-1, keepdim=True) / alive.sum(-1, keepdim=True).clamp(min=1)
    return (log - mean).where(alive, 0).exp()

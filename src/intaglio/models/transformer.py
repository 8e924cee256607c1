"""The one transformer, as pure functions over dicts of tensors: what every ModelSpec means.

b batch, t tokens, h hidden, H query heads, K key heads, d head_dim. Every sequence starts at position 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from intaglio import terms
from intaglio.formats.arrays import to_torch
from intaglio.lazy import lazy
from intaglio.models import roles
from intaglio.models.rope import table
from intaglio.models.spec import ModelSpec, Rope

if TYPE_CHECKING:
    import torch
    from torch.nn import functional

    from intaglio.models.checkpoint import Checkpoint
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")
    functional = lazy("torch.nn.functional", extra="compress")

Weights: TypeAlias = "dict[str, Tensor]"  # "<name>.weight", "<name>.bias"; which names, each function says
Tap: TypeAlias = "Callable[[str, Tensor], Tensor]"  # (point, x) -> x or what takes its place
# where a tap is called in every block; for the readers of a shared input also at each one's role, "q" or "up"
POINTS = (*roles.INPUTS, "query", "key", "value")


def forward(checkpoint: Checkpoint, tokens: Tensor) -> Tensor:
    """tokens (b, t) -> logits (b, t, vocab) float32, holding the weights of one layer at a time."""
    spec = checkpoint.spec
    with torch.no_grad():
        outer = outer_weights(checkpoint)
        x = embed(spec, outer, tokens)
        for layer in range(spec.num_layers):
            x = block(spec, layer, layer_weights(checkpoint, layer), x)
        return head(spec, outer, x)


def layer_weights(checkpoint: Checkpoint, layer: int) -> Weights:
    """One layer's weights as `block` takes them, float32, decoded where they are coded."""
    prefix = f"model.layers.{layer}."
    inside = _decoded(checkpoint, lambda name: name.startswith(prefix))
    return {name.removeprefix(prefix): tensor for name, tensor in inside.items()}


def outer_weights(checkpoint: Checkpoint) -> Weights:
    """What lies outside the layers, as `embed` and `head` take it, float32."""
    return _decoded(checkpoint, lambda name: not name.startswith("model.layers."))


def _decoded(checkpoint: Checkpoint, wanted: Callable[[str], bool]) -> Weights:
    weights = {}
    for name in filter(wanted, checkpoint.linears):
        coded = checkpoint.linears[name]
        weights[f"{name}.weight"] = terms.decode(coded)
        if coded.bias is not None:
            weights[f"{name}.bias"] = to_torch(coded.bias)
    for name in filter(wanted, checkpoint.vectors):
        weights[f"{name}.weight"] = to_torch(checkpoint.vectors[name])
    return weights


def untouched(point: str, x: Tensor) -> Tensor:
    """The tap that only looks away."""
    return x


def embed(spec: ModelSpec, w: Weights, tokens: Tensor) -> Tensor:
    """tokens (b, t) integers -> (b, t, h). `w` is keyed by full names, "model.embed_tokens.weight"."""
    x = functional.embedding(tokens, w[f"{roles.EMBEDDING}.weight"])
    if f"{roles.EMBED_PROJ}.weight" in w:
        x = linear(w, roles.EMBED_PROJ, x)
    return x * spec.embed_scale


def head(spec: ModelSpec, w: Weights, h: Tensor, *, tap: Tap | None = None) -> Tensor:
    """h (b, t, h) -> logits (b, t, vocab). Without `lm_head.weight` the embedding takes its place.

    `tap` is called at one point, "head_in".
    """
    n = (tap or untouched)("head_in", head_input(spec, w, h))
    logits = linear(w, roles.HEAD if f"{roles.HEAD}.weight" in w else roles.EMBEDDING, n) * spec.logit_scale
    return _softcapped(logits, spec.logit_softcap)


def head_input(spec: ModelSpec, w: Weights, h: Tensor) -> Tensor:
    """h (b, t, h), what the last block puts out -> what the head's matrix reads of it."""
    n = norm(spec, w[f"{roles.FINAL_NORM}.weight"], h)
    return linear(w, roles.HEAD_PROJ, n) if f"{roles.HEAD_PROJ}.weight" in w else n


def block(spec: ModelSpec, layer: int, w: Weights, x: Tensor, *, tap: Tap | None = None) -> Tensor:
    """One layer: x (b, t, h) -> (b, t, h). `w` is keyed by names inside a layer, "mlp.up_proj.weight"."""
    n = _maybe_norm(spec, w, "pre_attention_norm", spec.pre_norm, x)
    y = _maybe_norm(spec, w, "post_attention_norm", spec.post_norm, attention(spec, layer, w, n, tap=tap))
    x = torch.add(x, y, alpha=spec.residual_scale)
    n = _maybe_norm(spec, w, "pre_mlp_norm", spec.pre_norm, x)
    y = _maybe_norm(spec, w, "post_mlp_norm", spec.post_norm, mlp(spec, w, n, tap=tap))
    return torch.add(x, y, alpha=spec.residual_scale)


def attention(spec: ModelSpec, layer: int, w: Weights, n: Tensor, *, tap: Tap | None = None) -> Tensor:
    """From the (normed) input of q, k, v to the output of o: (b, t, h) -> (b, t, h)."""
    tap = tap or untouched
    n = tap("attention_in", n)
    rope = spec.ropes[spec.layers[layer].rope]
    q = tap("query", rotate(rope, _heads(spec, w, "q", tap("q", n))))  # (b, H, t, d)
    k = tap("key", rotate(rope, _heads(spec, w, "k", tap("k", n))))  # (b, K, t, d)
    v = tap("value", _heads(spec, w, "v", tap("v", n)))  # (b, K, t, d)
    y = attend(spec, spec.layers[layer].window, q, k, v)
    return linear(w, roles.LINEARS["o"], tap("o_in", y.transpose(1, 2).flatten(2)))


def mlp(spec: ModelSpec, w: Weights, n: Tensor, *, tap: Tap | None = None) -> Tensor:
    """From the (normed) input of gate and up to the output of down: (b, t, h) -> (b, t, h)."""
    tap = tap or untouched
    n = tap("mlp_in", n)
    gate, up = (linear(w, roles.LINEARS[role], tap(role, n)) for role in ("gate", "up"))
    return linear(w, roles.LINEARS["down"], tap("down_in", activate(spec, gate) * up))


def attend(spec: ModelSpec, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention: q (b, H, t, d), k and v (b, K, t, d) -> (b, H, t, d).

    A query at position p sees keys max(0, p - window + 1) .. p.
    """
    t = q.shape[2]
    whole = window is None or window >= t
    if spec.attention_softcap is None:
        return functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if whole else visible(t, window, q.device),
            is_causal=whole,
            scale=spec.attention_scale,
            enable_gqa=True,
        )
    repeat = spec.num_heads // spec.num_kv_heads
    k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    scores = _softcapped(spec.attention_scale * (q @ k.mT), spec.attention_softcap)  # (b, H, t, t)
    return scores.masked_fill(~visible(t, window, q.device), -torch.inf).softmax(dim=-1) @ v


def visible(t: int, window: int | None, device: torch.device) -> Tensor:
    """(t, t) bool: may query i see key j."""
    distance = torch.arange(t, device=device)[:, None] - torch.arange(t, device=device)
    return (distance >= 0) & (distance < (window or t))


def rotate(rope: Rope, x: Tensor) -> Tensor:
    """Turns channel pairs (i, i + dim/2) of the first `rope.dim` of x (b, heads, t, d) by their position."""
    if not rope.dim:
        return x
    cos, sin = (torch.from_numpy(part).to(x) for part in table(rope, x.shape[2]))  # (t, dim/2)
    half = rope.dim // 2
    first, second, rest = x[..., :half], x[..., half : rope.dim], x[..., rope.dim :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def norm(spec: ModelSpec, gain: Tensor, x: Tensor) -> Tensor:
    """gain * x / rms(x) over the last dimension."""
    return functional.rms_norm(x, gain.shape, gain, spec.norm_eps)


def activate(spec: ModelSpec, x: Tensor) -> Tensor:
    """The activation of the gate."""
    if spec.activation == "silu":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if spec.activation == "gelu_tanh" else "none")


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    """x (..., in) -> (..., out)."""
    return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def _heads(spec: ModelSpec, w: Weights, role: str, n: Tensor) -> Tensor:
    """The projection `role` of n (b, t, h), normed where the model says so: (b, heads, t, d)."""
    y = linear(w, roles.LINEARS[role], n)
    normed = spec.qk_norm if role != "v" else None
    gain = f"self_attn.{role}_norm.weight"
    if normed == "full":
        y = norm(spec, w[gain], y)
    y = y.reshape(*n.shape[:-1], -1, spec.head_dim)
    if normed == "head":
        y = norm(spec, w[gain], y)
    return y.transpose(1, 2)


def _maybe_norm(spec: ModelSpec, w: Weights, name: str, present: bool, x: Tensor) -> Tensor:
    return norm(spec, w[f"{name}.weight"], x) if present else x


def _softcapped(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else cap * torch.tanh(x / cap)

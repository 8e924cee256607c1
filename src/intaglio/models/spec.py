"""What the one transformer needs to know of a model. Every architecture is a value of these structs."""

from __future__ import annotations

from typing import Literal

import msgspec


class Rope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rotary embedding of the first `dim` channels of a head, pairs (i, i + dim/2).

    Angle of pair i at position p is `p * inv_freq[i]`; cos and sin are multiplied by `scale` (yarn's mscale).
    """

    dim: int
    inv_freq: tuple[float, ...]
    scale: float = 1.0


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may differ from layer to layer: the sliding window (None: all keys) and the rope used."""

    window: int | None = None
    rope: int = 0


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decoder-only transformer.

    h = embed_scale * embed_proj(embedding[token])
    each layer:  h += residual_scale * post_attention_norm?( o(attention( q,k,v(pre_attention_norm?(h)) )) )
                 h += residual_scale * post_mlp_norm?( down( act(gate(n)) * up(n) ) ),  n = pre_mlp_norm?(h)
    logits = softcap( lm_head( head_proj( norm(h) ) ) * logit_scale )
    score  = softcap( attention_scale * q.k ), q and k after their norm (if any) and rope.
    """

    architecture: str  # as in config.json, e.g. "LlamaForCausalLM"
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    norm_eps: float
    max_position: int
    ropes: tuple[Rope, ...]
    layers: tuple[Layer, ...]
    activation: Literal["silu", "gelu_tanh", "gelu"] = "silu"
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: Literal["head", "full"] | None = None  # per head, or over the whole projection (OLMo2)
    attention_scale: float = 0.0  # set by the architecture, usually head_dim ** -0.5
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    tied: bool = False  # lm_head is the embedding

"""The names of a model's parts. Methods ask for roles; only this file and an architecture know names."""

from __future__ import annotations

# role -> name inside a layer. A matrix is stored under `model.layers.<i>.<name>`.
LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
AFTER_ATTENTION = ("o", "gate", "up", "down")
# role -> name inside a layer, of vectors; gains are stored as multiplied (Gemma's 1 + w is 1 + w here)
NORMS = {
    "pre_attention_norm": "pre_attention_norm",
    "post_attention_norm": "post_attention_norm",
    "pre_mlp_norm": "pre_mlp_norm",
    "post_mlp_norm": "post_mlp_norm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
# outside the layers; embed_proj and head_proj (hidden, hidden) are optional and made by a rotation
EMBEDDING = "model.embed_tokens"
EMBED_PROJ = "model.embed_proj"
FINAL_NORM = "model.norm"
HEAD_PROJ = "model.head_proj"
HEAD = "lm_head"

# what a linear reads: linears with one input share its activations (and may be run as one matrix)
INPUTS = {"attention_in": ("q", "k", "v"), "o_in": ("o",), "mlp_in": ("gate", "up"), "down_in": ("down",)}

_POINTS = {LINEARS[role]: point for point, members in INPUTS.items() for role in members}


def input_of(name: str) -> str | None:
    """What a linear reads, by its full name: `"3.mlp_in"`; None outside the layers."""
    layer, _, inside = name.removeprefix("model.layers.").partition(".")
    return f"{layer}.{_POINTS[inside]}" if inside in _POINTS else None


def site(layer: int, role: str) -> str:
    """Full name of a linear or norm: `site(3, "q") == "model.layers.3.self_attn.q_proj"`."""
    return f"model.layers.{layer}.{LINEARS.get(role) or NORMS[role]}"

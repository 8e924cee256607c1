"""GGUF files of tiny transformers models, written with the gguf package as its converters do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import transformers

from tests.models.tiny import CASES

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
ARCHITECTURE = {"mistral": "llama", "olmo3": "olmo2"}
PERMUTED = ("llama", "smollm3", "granite")
Q = gguf.GGMLQuantizationType


def write_gguf(
    model: transformers.PreTrainedModel,
    case: str,
    path: Path,
    *,
    kind: Q = Q.F32,
    keys: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
) -> Path:
    """`model`, of tiny's `case`, with matrices stored as `kind`; `keys` after the architecture's name."""
    name = case.partition("-")[0]
    architecture = ARCHITECTURE.get(name, name)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (_keys(model.config) | (keys or {})).items():
        _add(writer, f"{architecture}.{key}", value)
    for theirs, tensor in _tensors(model, architecture).items():
        stored = kind if tensor.ndim == 2 else Q.F32
        writer.add_tensor(theirs, gguf.quants.quantize(tensor, stored), raw_dtype=stored)
    for theirs, tensor in (tensors or {}).items():
        writer.add_tensor(theirs, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _keys(config: Any) -> dict[str, Any]:
    theta = (config.rope_parameters or {}).get("rope_theta")
    found = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": theta,
    }
    return {key: value for key, value in found.items() if value is not None}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_uint32(key, value)


def _tensors(model: transformers.PreTrainedModel, architecture: str) -> dict[str, np.ndarray]:
    found = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
        part = name.split(".")[-2]
        if architecture in PERMUTED and part in heads:
            halves = values.reshape(heads[part], 2, -1, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if architecture.startswith("gemma") and "norm" in part:
            values = values + 1
        found[_name(name, architecture)] = np.ascontiguousarray(values)
    return found


def _name(name: str, architecture: str) -> str:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    if part == "post_attention_layernorm":
        after = architecture in ("gemma2", "gemma3", "olmo2")
        return f"blk.{layer}.{'post_attention_norm' if after else 'ffn_norm'}.{kind}"
    return f"blk.{layer}.{NAMES[part]}.{kind}"


assert set(ARCHITECTURE) <= {name.partition("-")[0] for name in CASES}

"""From a GGUF file's metadata to the config.json the model would have at Hugging Face."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.models.fields import Fields
from intaglio.models.gguf import Gguf
from intaglio.models.json_text import shown
from intaglio.types import Array

# our config field <- key after "<architecture>."
COMMON = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
GEMMA_HEADS = {
    46: 144,
    62: 168,
}  # layers -> scalar, of the 27B models; the others use head_dim. Not in the files.


def config(file: Gguf) -> dict[str, Any]:
    """config.json's fields; spec_from_config checks their values."""
    name = file.metadata.get("general.architecture")
    make = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if make is None:
        known = ", ".join(ARCHITECTURES)
        raise IntaglioError(f"{file.path}: unknown GGUF architecture {shown(name)}; known are {known}")
    keys = _Keys(file, str(name))
    embedding = file.tensors.get("token_embd.weight")
    found: dict[str, Any] = {ours: keys.get(theirs) for ours, theirs in COMMON.items()}
    found |= {
        "vocab_size": None if embedding is None else embedding.shape[0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_output.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in file.tensors,
        "rope_scaling": _rope_scaling(keys),
        "partial_rotary_factor": _partial_rotary_factor(keys),
        "torch_dtype": "float32",
    }
    found |= _special_tokens(keys) | make(keys)
    return {field: value for field, value in found.items() if value is not None}


class _Keys:
    """The metadata of one architecture."""

    def __init__(self, file: Gguf, architecture: str) -> None:
        self.file = file
        self.architecture = architecture

    def get(self, key: str) -> Any:
        """The value, in Python's terms; of an array with the same value for every layer, that value."""
        value = self.file.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, np.ndarray):
            same = set(value[:4096].tolist())
            if len(same) != 1 or len(value) > 4096:
                raise IntaglioError(
                    f"{self.file.path}: {self.architecture}.{key} differs between layers, which is not read"
                )
            value = same.pop()
        return _short(value) if isinstance(value, float) else value

    def fields(self) -> Fields:
        """For values that are calculated with here."""
        return Fields({ours: self.get(theirs) for ours, theirs in COMMON.items()}, {}, str(self.file.path))

    def head_dim(self) -> int:
        fields = self.fields()
        heads = fields.size("num_attention_heads", 1024)
        return fields.size("head_dim", 1024, default=max(1, fields.size("hidden_size", 1 << 16) // heads))

    def vector(self, name: str) -> Array | None:
        """A small tensor of rotary factors."""
        tensor = self.file.tensors.get(name)
        return None if tensor is None or math.prod(tensor.shape) > 1024 else self.file.read(name).ravel()


def _short(value: float) -> float:
    """The shortest decimal that means the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if math.isfinite(value) else value


def _special_tokens(keys: _Keys) -> dict[str, Any]:
    names = {
        "bos_token_id": "bos_token_id",
        "eos_token_id": "eos_token_id",
        "pad_token_id": "padding_token_id",
    }
    return {ours: keys.file.metadata.get(f"tokenizer.ggml.{theirs}") for ours, theirs in names.items()}


def _rope_scaling(keys: _Keys) -> dict[str, Any] | None:
    if (factors := keys.vector("rope_freqs.weight")) is not None:
        return _from_factors(keys, factors)
    if (short := keys.vector("rope_factors_short.weight")) is not None:
        return _longrope(keys, short)
    kind = keys.get("rope.scaling.type") or ("linear" if keys.get("rope.scale_linear") else "none")
    if kind == "none":
        return None
    scaling = {
        "rope_type": kind,
        "factor": keys.get("rope.scaling.factor") or keys.get("rope.scale_linear"),
        "original_max_position_embeddings": keys.get("rope.scaling.original_context_length"),
        "beta_fast": keys.get("rope.scaling.yarn_beta_fast"),
        "beta_slow": keys.get("rope.scaling.yarn_beta_slow"),
    }
    return {name: value for name, value in scaling.items() if value is not None}


def _partial_rotary_factor(keys: _Keys) -> float | None:
    """What share of a head turns, if not all of it."""
    turned, whole = keys.get("rope.dimension_count"), keys.head_dim()
    return turned / whole if type(turned) is int and turned != whole else None


def _from_factors(keys: _Keys, factors: Array) -> dict[str, Any] | None:
    """Llama 3.1's converter stores the divisors of the frequencies only. The parameters that all its models
    were published with are tried; other divisors are kept as they are, as longrope's of any length."""
    factors = factors.astype(np.float64)
    if np.array_equal(factors, np.ones_like(factors)):
        return None
    theta, largest = keys.fields().number("rope_theta", 10_000.0), float(factors.max())
    turns = 8192 * theta ** -(np.arange(len(factors)) / len(factors)) / (2 * math.pi)
    keep = np.clip((turns - 1) / 3, 0, 1)
    if largest > 0 and np.allclose(1 / (keep + (1 - keep) / largest), factors, rtol=1e-4):
        return {
            "rope_type": "llama3",
            "factor": largest,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    listed = factors.tolist()
    length = keys.get("context_length")
    return {
        "rope_type": "longrope",
        "short_factor": listed,
        "long_factor": listed,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": length,
    }


def _longrope(keys: _Keys, short: Array) -> dict[str, Any]:
    long = keys.vector("rope_factors_long.weight")
    scaling = {
        "rope_type": "longrope",
        "short_factor": short.tolist(),
        "long_factor": (short if long is None else long).tolist(),
        "attention_factor": keys.get("rope.scaling.attn_factor"),
        "original_max_position_embeddings": keys.get("rope.scaling.original_context_length"),
    }
    return {name: value for name, value in scaling.items() if value is not None}


def _llama(keys: _Keys) -> dict[str, Any]:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def _smollm3(keys: _Keys) -> dict[str, Any]:
    return {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3"}


def _qwen2(keys: _Keys) -> dict[str, Any]:
    return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False}


def _qwen3(keys: _Keys) -> dict[str, Any]:
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "use_sliding_window": False}


def _olmo2(keys: _Keys) -> dict[str, Any]:
    """OLMo 3 goes by the same name, and has a window."""
    window = keys.get("attention.sliding_window")
    if window is None:
        return {"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2"}
    return {"architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "sliding_window": window} | {
        "rope_local_base_freq": keys.get("rope.freq_base")
    }


def _gemma2(keys: _Keys) -> dict[str, Any]:
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "sliding_window": keys.get("attention.sliding_window"),
        "query_pre_attn_scalar": GEMMA_HEADS.get(keys.get("block_count"), keys.head_dim()),
        "attn_logit_softcapping": keys.get("attn_logit_softcapping"),
        "final_logit_softcapping": keys.get("final_logit_softcapping"),
    }


def _gemma3(keys: _Keys) -> dict[str, Any]:
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "sliding_window": keys.get("attention.sliding_window"),
        "sliding_window_pattern": keys.get("attention.sliding_window_pattern"),
        "query_pre_attn_scalar": GEMMA_HEADS.get(keys.get("block_count"), keys.head_dim()),
        "final_logit_softcapping": keys.get("final_logit_softcapping"),
        "rope_local_base_freq": keys.get("rope.freq_base_swa"),
    }


def _phi3(keys: _Keys) -> dict[str, Any]:
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "sliding_window": keys.get("attention.sliding_window") or None,
        "original_max_position_embeddings": keys.get("rope.scaling.original_context_length"),
    }


def _granite(keys: _Keys) -> dict[str, Any]:
    return {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "embedding_multiplier": keys.get("embedding_scale"),
        "attention_multiplier": keys.get("attention.scale"),
        "residual_multiplier": keys.get("residual_scale"),
        "logits_scaling": keys.get("logit_scale"),
    }


ARCHITECTURES: dict[str, Callable[[_Keys], dict[str, Any]]] = {
    "llama": _llama,
    "smollm3": _smollm3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "olmo2": _olmo2,
    "granite": _granite,
}

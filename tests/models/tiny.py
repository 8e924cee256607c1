"""Two-layer random transformers models, one or more of each architecture, made on the spot.

    model = tiny("gemma2")             # a transformers module in float32, the same at every call
    directory = save_tiny("phi3", tmp_path)
    checkpoint = tiny_checkpoint("qwen2")   # the same model as our own type, in memory

Norms, biases and weights are drawn wide enough that leaving any of them out shows in the logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from intaglio.formats import Floating
from intaglio.models.architectures import architecture, spec_from_config
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded, Dense

SMALL = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0 + 0.1 * i for i in range(6)],
    "long_factor": [2.0 + 0.5 * i for i in range(6)],
}
PER_LAYER = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0},
}
TYPES = ["sliding_attention", "full_attention"]

# name -> (transformers class without ForCausalLM, its config class, what differs from SMALL)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "LlamaConfig", {}),
    "llama-biased": ("Llama", "LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("Llama", "LlamaConfig", {"tie_word_embeddings": True, "head_dim": 24}),
    "llama-linear": ("Llama", "LlamaConfig", {"rope_parameters": {"rope_type": "linear", "factor": 3.0}}),
    "llama-llama3": ("Llama", "LlamaConfig", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("Llama", "LlamaConfig", {"rope_parameters": YARN}),
    "llama-yarn-mscale": (
        "Llama",
        "LlamaConfig",
        {
            "rope_parameters": YARN
            | {"mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 16, "truncate": False}
        },
    ),
    "llama-dynamic": ("Llama", "LlamaConfig", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
    "smollm3": ("SmolLM3", "SmolLM3Config", {"no_rope_layers": [1, 0]}),
    "mistral": ("Mistral", "MistralConfig", {"sliding_window": 7}),
    "mistral-full": ("Mistral", "MistralConfig", {"sliding_window": None, "head_dim": 32}),
    "qwen2": ("Qwen2", "Qwen2Config", {}),
    "qwen2-window": (
        "Qwen2",
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", "Qwen3Config", {"head_dim": 32}),
    "qwen3-biased": ("Qwen3", "Qwen3Config", {"head_dim": 16, "attention_bias": True}),
    "olmo2": ("Olmo2", "Olmo2Config", {}),
    "olmo3": ("Olmo3", "Olmo3Config", {"sliding_window": 6, "layer_types": TYPES}),
    "gemma2": ("Gemma2", "Gemma2Config", {"head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 6}),
    "gemma3": (
        "Gemma3",
        "Gemma3TextConfig",
        {"head_dim": 32, "sliding_window": 6, "layer_types": TYPES, "rope_parameters": PER_LAYER},
    ),
    "phi3": ("Phi3", "Phi3Config", {"sliding_window": 9}),
    "phi3-longrope": (
        "Phi3",
        "Phi3Config",
        {"original_max_position_embeddings": 64, "rope_parameters": LONGROPE},
    ),
    "granite": (
        "Granite",
        "GraniteConfig",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "logits_scaling": 2.5,
            "attention_bias": True,
        },
    ),
}
# one of each architecture, for tests that need not try every variant
ARCHITECTURES = tuple(name for name in CASES if "-" not in name)


def tiny_config(name: str, **changes: Any) -> transformers.PreTrainedConfig:
    """The config of a case, `changes` on top."""
    kind, config_class, own = CASES[name]
    values = SMALL | own | changes
    config = getattr(transformers, config_class)(**{key: _copied(value) for key, value in values.items()})
    config.architectures = [f"{kind}ForCausalLM"]
    return config


def tiny(name: str, *, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A transformers model of the case with seeded random weights, float32, in eval mode."""
    model = getattr(transformers, f"{CASES[name][0]}ForCausalLM")(tiny_config(name, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "embed_tokens" in key:
                parameter.copy_(noise * 0.5)
            elif parameter.dim() == 2:
                parameter.copy_(noise * 1.5 / parameter.shape[1] ** 0.5)
            else:  # norms move around what they start from, biases away from zero
                parameter.add_(0.3 * noise)
    return model.eval()


def save_tiny(name: str, directory: Path, *, seed: int = 0, **changes: Any) -> Path:
    """The case written by transformers itself: config.json and model.safetensors in `directory`."""
    tiny(name, seed=seed, **changes).save_pretrained(directory)
    return directory


def tiny_checkpoint(name: str, *, seed: int = 0, **changes: Any) -> Checkpoint:
    """The case as a plain float32 Checkpoint in memory."""
    return checkpoint_of(tiny(name, seed=seed, **changes))


def checkpoint_of(model: transformers.PreTrainedModel) -> Checkpoint:
    """Any transformers model as a plain float32 Checkpoint in memory."""
    config = model.config.to_dict()
    spec = spec_from_config(config)
    tensors = canonical(model)
    matrices = {name.removesuffix(".weight") for name, tensor in tensors.items() if tensor.ndim == 2}
    linears = {
        name: Coded(
            shape=tensors[f"{name}.weight"].shape,
            terms=(Dense(Floating("float32")),),
            state={"0.value": tensors[f"{name}.weight"]},
            bias=tensors.get(f"{name}.bias"),
        )
        for name in sorted(matrices)
    }
    vectors = {
        name.removesuffix(".weight"): tensor
        for name, tensor in tensors.items()
        if tensor.ndim == 1 and name.endswith(".weight")
    }
    return Checkpoint(name="tiny", config=config, spec=spec, linears=linears, vectors=vectors)


def canonical(model: transformers.PreTrainedModel) -> dict[str, np.ndarray]:
    """Every tensor of a transformers model under its canonical name, in the model's own dtype."""
    config = model.config.to_dict()
    state = model.state_dict()
    sources = architecture(config).sources(spec_from_config(config), config)
    return {
        name: (state[part.name][slice(*(part.rows or (None,)))] + part.add).numpy()
        for name, part in sources.items()
    }


def tokens(count: int, *, batch: int = 1, vocab: int = 131, seed: int = 0) -> torch.Tensor:
    """Seeded random token ids (batch, count)."""
    return torch.randint(0, vocab, (batch, count), generator=torch.Generator().manual_seed(seed))


def _copied(value: Any) -> Any:
    """Configs write into the dicts they are given."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, list) else value

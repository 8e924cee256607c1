"""Synthetic models: the public shapes of real ones with random numbers, for speed where no weights are."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from intaglio.errors import UsageError
from intaglio.formats import Floating, Format, Integer, TwoLevel
from intaglio.models import open_checkpoint, roles
from intaglio.models.architectures import linear_shape, spec_from_config
from intaglio.models.checkpoint import Checkpoint, Lazy
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded, Dense
from intaglio.types import Array, State

PREFIX = "synthetic:"
LLAMA_3_2 = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
ONE_B = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
THREE_B = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-1b": LLAMA_3_2 | ONE_B | {"head_dim": 64},
    "llama-3.2-3b": LLAMA_3_2 | THREE_B,
}
WEIGHTS, EMBEDDING = TwoLevel(bits=4, group_size=64), Integer(bits=8, symmetric=True, group_size=32)
ACTIVATIONS = Integer(bits=8, symmetric=True)
CACHE = {"quant_method": "intaglio", "version": 1, "recipe": "synthetic", "cache": {"type": "int", "bits": 4}}

Make = Callable[[str, tuple[int, int]], Coded]


def is_synthetic(ref: str) -> bool:
    return ref.startswith(PREFIX)


def open_model(ref: str) -> Checkpoint:
    """The model `ref` names, also a synthetic one: its compressed form, W4A8KV4."""
    if not is_synthetic(ref):
        return open_checkpoint(ref)
    return made(ref, _config(ref) | {"quantization_config": CACHE}, _compressed)


def original(ref: str, layers: int | None = None) -> Checkpoint:
    """What a synthetic model's compressed form would have been made of: random halves. `layers`: so many."""
    fewer = {} if layers is None else {"num_hidden_layers": layers}
    return made(ref, _config(ref) | fewer, _plain)


def made(name: str, config: dict[str, Any], make: Make) -> Checkpoint:
    """A model of this config whose matrices are made when they are read."""
    spec = spec_from_config(config)
    norms = ["pre_attention_norm", "pre_mlp_norm"]
    vectors = {roles.site(i, norm): spec.hidden_size for i in range(spec.num_layers) for norm in norms}
    vectors[roles.FINAL_NORM] = spec.hidden_size
    linears = Lazy({site: partial(make, site, shape) for site, shape in shapes(spec).items()})
    return Checkpoint(name, config, spec, linears, {k: np.ones(n, np.float32) for k, n in vectors.items()})


def _config(ref: str) -> dict[str, Any]:
    name = ref.removeprefix(PREFIX)
    if name not in SHAPES:
        raise UsageError(f"no synthetic model {name!r}; known are {', '.join(SHAPES)}")
    return dict(SHAPES[name])


def shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """Every matrix -> (out, in)."""
    layers = range(spec.num_layers)
    inside = {roles.site(i, role): linear_shape(spec, role) for i in layers for role in roles.LINEARS}
    return {roles.EMBEDDING: (spec.vocab_size, spec.hidden_size)} | inside


def _compressed(site: str, shape: tuple[int, int]) -> Coded:
    if site == roles.EMBEDDING:
        return _coded(shape, EMBEDDING, _integers(site, shape), EMBEDDING)
    return _coded(shape, WEIGHTS, _two_level(site, shape), ACTIVATIONS)


def _plain(site: str, shape: tuple[int, int]) -> Coded:
    values = _generator(site).standard_normal(shape, np.float32) * np.float32(shape[1] ** -0.5)
    return _coded(shape, Floating("float16"), {"value": values.astype(np.float16)}, None)


def _coded(shape: tuple[int, int], form: Format, state: State, activation: Integer | None) -> Coded:
    return Coded(shape, (Dense(form),), {f"0.{k}": a for k, a in state.items()}, activation=activation)


def _two_level(site: str, shape: tuple[int, int]) -> State:
    """Uniform codes; scales that give weights of variance 1 / in, as a trained matrix has about."""
    random, arrays = _generator(site), WEIGHTS.arrays(shape)
    codes = random.integers(0, 256, arrays["codes"].extents, np.uint8)
    steps = random.integers(4, 13, arrays["group_scale"].extents, np.uint8)
    zeros = random.integers(7, 9, arrays["group_zero"].extents, np.uint8)
    typical = 8.4 * 4.6  # root mean squares of the steps, and of the codes around their zero
    return {
        "codes": codes,
        "scale": np.full(arrays["scale"].extents, shape[1] ** -0.5 / typical, np.float32),
        "group_scale": steps,
        "group_zero": zeros,
    }


def _integers(site: str, shape: tuple[int, int]) -> State:
    random, arrays = _generator(site), EMBEDDING.arrays(shape)
    codes: Array = random.integers(1, 256, shape, np.uint8)
    return {
        "codes": codes.reshape(arrays["codes"].extents),
        "scale": np.full(arrays["scale"].extents, shape[1] ** -0.5 / 74, np.float16),
    }


def _generator(site: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(site.encode()))

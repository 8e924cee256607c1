"""KL with only one layer compressed, in whatever basis it was compressed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from intaglio.engine import score
from intaglio.errors import IntaglioError, UsageError
from intaglio.evaluation import layers
from intaglio.formats import Floating, Integer
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.transformer import Weights, forward, layer_weights, outer_weights
from intaglio.terms import Coded, Dense
from intaglio.transforms import Rotate
from tests.models.tiny import tiny_checkpoint

WINDOWS = [np.random.default_rng(i).integers(3, 131, 24).astype(np.int32) for i in range(3)]
ROTATE = Rotate(seed=3)


def silent(what: str, done: int, of: int) -> None: ...


def coded(
    w: torch.Tensor, term: Dense, bias: torch.Tensor | None, activation: Integer | None = None
) -> Coded:
    tables = term.format.fit(w)
    state = term.format.pack(term.format.encode(w, tables), tables)
    named = {f"0.{name}": array for name, array in state.items()}
    return Coded(tuple(w.shape), (term,), named, activation, None if bias is None else bias.numpy())


def checkpoint(
    base: Checkpoint, outer: Weights, inner: list[Weights], terms: list[Dense], **config: Any
) -> Checkpoint:
    """A model of these weights, layer i's matrices coded by terms[i]."""
    plain = Dense(Floating("float32"))
    full = dict(outer), [dict(w) for w in inner]
    linears, vectors = {}, {}
    prefixed = [("", full[0], plain)] + [(f"model.layers.{i}.", w, terms[i]) for i, w in enumerate(full[1])]
    for prefix, weights, term in prefixed:
        for key, w in weights.items():
            name = key.removesuffix(".weight")
            if key.endswith(".bias"):
                continue
            if w.ndim == 2:
                linears[prefix + name] = coded(w.contiguous(), term, weights.get(f"{name}.bias"))
            else:
                vectors[prefix + name] = w.numpy()
    spec = msgspec.structs.replace(base.spec, tied=roles.HEAD not in linears)
    return Checkpoint("candidate", {**base.config, **config}, spec, linears, vectors)


def rotated(base: Checkpoint, terms: list[Dense], **config: Any) -> Checkpoint:
    outer = ROTATE.outer(base.spec, outer_weights(base))
    inner = [ROTATE.layer(base.spec, i, layer_weights(base, i), None) for i in range(base.spec.num_layers)]
    return checkpoint(base, outer, inner, terms, **config)


PLAIN, FOUR = Dense(Floating("float32")), Dense(Integer(bits=4, group_size=32))


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "granite"])
def test_a_rotation_alone_hurts_no_layer(name: str) -> None:
    base = tiny_checkpoint(name)
    candidate = rotated(base, [PLAIN, PLAIN])
    tokens = torch.from_numpy(np.stack(WINDOWS).astype(np.int64))
    assert torch.allclose(forward(candidate, tokens), forward(base, tokens), atol=1e-3)
    assert layers.basis(outer_weights(base), outer_weights(candidate)) is not None
    found = layers.measure(candidate, base, WINDOWS, silent)
    assert [one.layer for one in found] == [0, 1]
    assert max(one.kl_max for one in found) < 1e-5


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_only_the_coded_layer_hurts(name: str) -> None:
    base = tiny_checkpoint(name)
    found = layers.measure(rotated(base, [PLAIN, FOUR]), base, WINDOWS, silent)
    assert found[0].kl_max < 1e-5
    assert found[1].kl_mean > 1e-3


def test_is_the_model_with_that_layer_exchanged_where_nothing_was_rotated() -> None:
    base = tiny_checkpoint("llama")
    weights = [layer_weights(base, i) for i in range(2)]
    candidate = checkpoint(base, outer_weights(base), weights, [FOUR, FOUR])
    found = layers.measure(candidate, base, WINDOWS, silent)
    tokens = torch.from_numpy(np.stack(WINDOWS).astype(np.int64))
    original = forward(base, tokens)[:, :-1].flatten(0, 1).numpy()
    for layer in range(2):
        mixed = forward(base.with_layer(layer, candidate), tokens)[:, :-1].flatten(0, 1).numpy()
        kl = score.kl(original, mixed)
        assert found[layer].kl_mean == pytest.approx(kl.mean(), rel=1e-4)
        assert found[layer].kl_max == pytest.approx(kl.max(), rel=1e-4)


def test_the_cache_of_the_artifact_counts() -> None:
    base = tiny_checkpoint("llama")
    cache = {"quant_method": "intaglio", "cache": {"type": "int", "bits": 4}}
    found = layers.measure(rotated(base, [PLAIN, PLAIN], quantization_config=cache), base, WINDOWS, silent)
    assert min(one.kl_mean for one in found) > 1e-5


def test_another_model_is_refused() -> None:
    base = tiny_checkpoint("llama")
    with pytest.raises(IntaglioError, match="no rotation"):
        layers.measure(tiny_checkpoint("llama", seed=1), base, WINDOWS, silent)
    with pytest.raises(UsageError, match="3 layers"):
        layers.measure(tiny_checkpoint("llama", num_hidden_layers=3), base, WINDOWS, silent)

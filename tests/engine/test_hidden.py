"""What the head reads, beside transformers; the mean of it is a prompt's embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.engine.pages import pages_for
from intaglio.engine.scoring import PromptEmbedding
from intaglio.errors import IntaglioError, UsageError
from intaglio.formats import Floating, TwoLevel
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded, Dense, decode
from intaglio.types import Array
from tests.engine.small import A8, ISAS, coded, far, plain, rounded, tokens, transformers_model
from tests.models.tiny import CASES


def executor(checkpoint: Checkpoint, isa: str | None = None, kv: str = "fp32", **limits: int) -> Executor:
    return Executor(checkpoint, isa=isa, threads=2, kv=kv, max_sequences=2, **({"max_tokens": 64} | limits))


def hidden(one: Executor, x: Array) -> Array:
    """float32 (n, hidden) of a text of its own."""
    pages = one.pool.allocate(pages_for(len(x)))
    try:
        return one.hidden(x, 0, pages)
    finally:
        one.pool.free(pages)


def embedding(one: Executor, x: Array, size: int) -> Array:
    made = PromptEmbedding(one, x.tolist(), size=size)
    while not made.finished:
        made.step()
    assert one.pool.available == one.pool.count
    return made.vector


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CASES)
def test_the_last_state_is_that_of_transformers(name: str, isa: str) -> None:
    x = tokens(60 if name == "phi3-longrope" else 150)
    with torch.no_grad():
        base = transformers_model(name).model
        expected = base(torch.from_numpy(x)[None].long()).last_hidden_state[0].numpy()
    one = executor(plain(name), isa)
    assert far(hidden(one, x), expected) <= 1e-4
    assert far(embedding(one, x, 64), expected.mean(axis=0)) <= 1e-4


@pytest.mark.parametrize("kv", ["fp16", "int4"])
@pytest.mark.parametrize("kind", ["llama", "gemma2", "w4a8"])
def test_slices_change_nothing(kind: str, kv: str) -> None:
    checkpoint = rounded(plain("llama"), TwoLevel(4, group_size=32), A8) if kind == "w4a8" else plain(kind)
    one, x = executor(checkpoint, kv=kv), tokens(150)
    rows = hidden(one, x)
    np.testing.assert_array_equal(hidden(executor(checkpoint, kv=kv, max_tokens=7), x), rows)
    for size in (1, 7, 64, 1000):
        assert far(embedding(one, x, size), rows.mean(axis=0, dtype=np.float64)) <= 1e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("integers", [False, True])
def test_a_rotation_that_is_undone_before_the_head_is_undone(isa: str, integers: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0].numpy()
    matrix = Coded((64, 64), (Dense(Floating("float32")),), {"0.value": np.ascontiguousarray(turn)})
    if integers:
        matrix = coded(matrix, TwoLevel(bits=4, group_size=32), A8)
    projected = plain("llama").replace({roles.HEAD_PROJ: matrix})
    x = tokens(70)
    expected = hidden(executor(plain("llama"), isa), x) @ decode(matrix).numpy().T
    assert far(hidden(executor(projected, isa), x), expected) <= (0.05 if integers else 1e-4)


def test_it_leaves_others_their_draws() -> None:
    one, x = executor(plain("llama")), tokens(60)
    pages = one.pool.allocate(1)
    drawn = one.step([Chunk(x, 0, pages, draws=1, logprobs=2)])
    before = one.last_logits(0), one.logprobs(0)
    hidden(one, tokens(90, seed=4))
    np.testing.assert_array_equal(one.last_logits(0), before[0])
    assert one.logprobs(0) == before[1]
    after = one.step([Chunk(drawn, 60, pages, draws=1)])
    one.pool.free(pages)
    fresh = executor(plain("llama"))
    np.testing.assert_array_equal(one.last_logits(0), fresh.logits([*x, *drawn])[-1])
    assert after[0] == one.last_logits(0).argmax()


def test_what_has_no_state_is_refused() -> None:
    one = executor(plain("llama"), max_context=100)
    for wrong, sentence in (
        ([], "prompt is empty"),
        ([1] * 101, "101 tokens, the context 100"),
        ([131], "token 131 of the prompt is outside the vocabulary of 131"),
        ([2**40], "outside the vocabulary"),
    ):
        with pytest.raises(UsageError, match=sentence):
            PromptEmbedding(one, wrong)
    with pytest.raises(UsageError, match="a slice of 0 tokens"):
        PromptEmbedding(one, [1], size=0)
    unfinished = PromptEmbedding(one, [1] * 65)
    with pytest.raises(UsageError, match="tokens left"):
        _ = unfinished.vector
    with pytest.raises(UsageError, match=r"rows must be an array of \(tokens, what the head reads\)"):
        one._rows(one._open().hidden_rows, 63, [1, 2], 0, [0])


def test_broken_weights_are_one_sentence() -> None:
    broken = plain("llama")
    vectors = {**broken.vectors, "model.norm": np.full(64, np.nan, np.float32)}
    one = executor(Checkpoint("broken", broken.config, broken.spec, broken.linears, vectors))
    made = PromptEmbedding(one, [1, 2])
    made.step()
    with pytest.raises(IntaglioError, match="embedding is not finite"):
        _ = made.vector

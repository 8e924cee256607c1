"""The draws of a step: each row with its own position, history and mask, beside the sampler alone."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import NOT_FINITE, Executor
from intaglio.engine.mask import everything, without
from intaglio.engine.sampling import Sampling
from tests.engine.small import plain, tokens
from tests.engine.test_sampler import draw

VOCAB = 131
SAMPLED = Sampling(temperature=1.3, seed=2, top_p=0.95)
PENALISED = Sampling(
    repetition_penalty=3.0, presence_penalty=1.0, frequency_penalty=2.0, logit_bias={7: 1.5, 9: -4.0}
)


@pytest.fixture(scope="module")
def one() -> Executor:
    return Executor(plain("llama"), threads=1, max_tokens=64, max_sequences=4, max_draft=7)


def chunk(n: int, page: int, draws: int, params: Sampling) -> Chunk:
    x = tokens(n, seed=n).tolist()
    rng = np.random.default_rng(n)  # a few tokens, most of them said: penalties decide
    allowed = [{*rng.choice(x, 5).tolist(), *rng.choice(VOCAB, 2).tolist()} for _ in range(draws)]
    masks = [without(everything(VOCAB), set(range(VOCAB)) - few) for few in allowed]
    return Chunk(x, 0, [page], draws, params, x, prompt=n // 2, masks=np.stack(masks), logprobs=3)


def test_every_row_is_drawn_as_the_sampler_alone_would(one: Executor) -> None:
    """Twice: nothing is left of one draw for the next."""
    batch = [chunk(9, 0, 5, PENALISED), chunk(20, 1, 8, SAMPLED), chunk(7, 2, 1, PENALISED)]
    for _ in range(2):
        drawn = one.step(batch)
        expected = []
        for at, c in enumerate(batch):
            assert c.masks is not None
            for row in range(c.draws):
                logits, n = one.last_logits(at, row), len(c.tokens) - c.draws + row + 1
                token = draw(logits, c.params, n - 1, c.history[:n], min(c.prompt, n), c.masks[row])
                logprob, rank, likeliest, logprobs = _native.logprobs(logits, token, 3)
                expected.append(token)
                assert one.logprobs(at, row) == (logprob, rank, (*likeliest,), (*logprobs,))
        assert drawn.tolist() == expected


def test_drafts_are_kept_up_to_the_first_that_was_not_drawn(one: Executor) -> None:
    said = tokens(5).tolist()
    for _ in range(4):
        said.append(int(one.step([Chunk(said, 0, [0], 1)])[0]))
    for wrong in range(4):
        drafted = [*said[:5], *(token + (i == wrong) for i, token in enumerate(said[5:8]))]
        c = Chunk(drafted, 0, [0], 4)
        assert c.accept(one.step([c])) == [*said[5:9]][: wrong + 1]
    assert Chunk(said, 0, [0], 0).accept([]) == []


def test_broken_logits_after_a_wrong_draft_are_nobodys() -> None:
    c = Chunk([3, 4, 5], 0, [0], 2)
    assert c.accept([9, NOT_FINITE]) == [9]
    assert c.accept([5, NOT_FINITE]) == [5, NOT_FINITE]

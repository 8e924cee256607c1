"""The scheduler against a stand-in engine that draws f(sequence's tokens): whatever the batch, the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.engine.pages import PAGE, PagePool, pages_for
from intaglio.engine.sampling import GREEDY
from intaglio.engine.scheduler import Chunk, Scheduler
from intaglio.engine.sequence import Sequence
from intaglio.errors import IntaglioError
from tests.engine.drafters import Always


def following(past: list[int]) -> int:
    return hash(tuple(past)) % 1000


class Engine:
    """Remembers which positions of which page were computed; refuses a chunk whose past is missing.

    Its drafts are wrong in every third place.
    """

    def __init__(self) -> None:
        self.memory: dict[tuple[int, int], int] = {}

    def step(self, chunks: list[Chunk]) -> list[list[int]]:
        """What each chunk draws, up to the first token that was not its draft."""
        return [self._run(chunk) for chunk in chunks]

    def _run(self, chunk: Chunk) -> list[int]:
        sequence = chunk.sequence
        end = sequence.computed + chunk.size
        text = sequence.tokens[:end]
        for _ in range(chunk.drafts):
            text.append(following(text) if len(text) % 3 else -1)
        for position in range(sequence.computed, len(text)):
            self.memory[sequence.pages[position // PAGE], position % PAGE] = text[position]
        assert text == [self.memory[sequence.pages[i // PAGE], i % PAGE] for i in range(len(text))]
        drawn: list[int] = []
        while chunk.draws and text[end : end + len(drawn)] == drawn and len(drawn) <= chunk.drafts:
            drawn.append(following(text[: end + len(drawn)]))
        return drawn


def finish(scheduler: Scheduler) -> list[int]:
    """Run everything; -> tokens of each step."""
    engine, sizes = Engine(), []
    while scheduler.busy:
        chunks = scheduler.schedule()
        assert chunks
        assert len({id(chunk.sequence) for chunk in chunks}) == len(chunks)
        sizes.append(sum(chunk.size + chunk.drafts for chunk in chunks))
        drawn = engine.step(chunks)
        scheduler.advance(chunks, [max(0, len(tokens) - 1) for tokens in drawn])
        for chunk, tokens in zip(chunks, drawn, strict=True):
            chunk.sequence.tokens += tokens
            assert len(chunk.sequence.tokens) <= chunk.sequence.limit
            if chunk.sequence.full:
                scheduler.remove(chunk.sequence)
        assert scheduler.pool.available + sum(len(s.pages) for s in scheduler.running) == scheduler.pool.count
    return sizes


def made(lengths: list[tuple[int, int]]) -> list[Sequence]:
    rng = np.random.default_rng(0)
    return [Sequence(rng.integers(0, 1000, n).tolist(), GREEDY, n + more) for n, more in lengths]


@given(
    lengths=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 90)), min_size=1, max_size=7),
    spare=st.integers(0, 6),
    max_tokens=st.integers(1, 150),
    max_sequences=st.integers(1, 8),
    max_draft=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_sequence_gets_what_it_would_get_alone(
    lengths: list[tuple[int, int]], spare: int, max_tokens: int, max_sequences: int, max_draft: int
) -> None:
    together, alone = made(lengths), made(lengths)
    least = max(pages_for(n + more) for n, more in lengths)
    scheduler = Scheduler(
        PagePool(least + spare),
        max_tokens=max_tokens,
        max_sequences=max_sequences,
        lengths=Always(max_draft) if max_draft else None,
    )
    for sequence in together:
        scheduler.add(sequence)
    assert max(finish(scheduler)) <= max_tokens
    for one in alone:
        single = Scheduler(PagePool(least), max_tokens=512, max_sequences=1)
        single.add(one)
        finish(single)
    assert [s.output for s in together] == [s.output for s in alone]
    assert scheduler.pool.available == scheduler.pool.count


def test_the_youngest_gives_way_when_pages_run_out() -> None:
    sequences = made([(PAGE, 2 * PAGE), (PAGE, 2 * PAGE)])
    scheduler = Scheduler(PagePool(3), max_tokens=256, max_sequences=2)
    for sequence in sequences:
        scheduler.add(sequence)
    finish(scheduler)
    assert scheduler.preemptions > 0
    assert all(len(s.output) == 2 * PAGE for s in sequences)


def test_drafts_get_the_tokens_that_prompts_leave_and_stop_before_the_limit() -> None:
    scheduler = Scheduler(PagePool(5), max_tokens=20, max_sequences=2, lengths=Always(8))
    old, new = made([(PAGE, 40), (PAGE + 1, 3)])
    scheduler.add(old)
    while old.computed < PAGE:
        chunks = scheduler.schedule()
        scheduler.advance(chunks, [0])
    assert (chunks[0].size, chunks[0].drafts) == (4, 8)
    assert len(old.pages) == 1  # that of the wrong drafts went back
    old.tokens.append(1)
    scheduler.add(new)
    assert [(c.sequence, c.size, c.drafts) for c in scheduler.schedule()] == [(old, 1, 0), (new, 19, 0)]
    new.computed = PAGE
    assert [(c.sequence, c.size, c.drafts) for c in scheduler.schedule()] == [(old, 1, 8), (new, 1, 2)]


def test_drafts_end_with_the_pages_that_are_left_and_push_nobody_out() -> None:
    scheduler = Scheduler(PagePool(2), max_tokens=200, max_sequences=2, lengths=Always(8))
    sequences = made([(PAGE - 4, 100), (PAGE - 2, 100)])
    for sequence in sequences:
        sequence.limit = PAGE * 2
        scheduler.add(sequence)
    assert [chunk.drafts for chunk in scheduler.schedule()] == [4, 2]
    assert scheduler.preemptions == 0


def test_prompts_are_chunked_while_others_decode() -> None:
    scheduler = Scheduler(PagePool(64), max_tokens=40, max_sequences=4)
    first, second = made([(10, 20), (300, 1)])
    scheduler.add(first)
    chunks = scheduler.schedule()
    scheduler.advance(chunks, [0])
    first.tokens.append(1)
    scheduler.add(second)
    chunks = scheduler.schedule()
    assert [(c.sequence, c.size, c.draws) for c in chunks] == [(first, 1, True), (second, 39, False)]


def test_what_can_never_fit_is_refused_at_once() -> None:
    scheduler = Scheduler(PagePool(2), max_tokens=8, max_sequences=1)
    with pytest.raises(IntaglioError, match="129 tokens does not fit a KV memory of 128"):
        scheduler.add(Sequence([1] * 100, GREEDY, 129))

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
        used = {page for s in scheduler.running for page in s.pages}
        assert scheduler.pool.available + len(used) == scheduler.pool.count
        for ranks in ([s.rank for s in scheduler.running], [s.rank for s in scheduler.waiting]):
            assert ranks == sorted(ranks)
    return sizes


def made(lengths: list[tuple[int, int]], *, shared: int = 0, seed: int = 0) -> list[Sequence]:
    """Sequences of so many tokens, to grow by so many; the first `shared` tokens are the same in all."""
    rng = np.random.default_rng(seed)
    same = rng.integers(0, 1000, shared).tolist()
    texts = [[*same[:n], *rng.integers(0, 1000, max(0, n - shared)).tolist()] for n, _ in lengths]
    return [Sequence(text, GREEDY, n + more) for text, (n, more) in zip(texts, lengths, strict=True)]


def run_step(scheduler: Scheduler) -> list[Chunk]:
    """One step, in which everybody who draws draws the same."""
    chunks = scheduler.schedule()
    count(scheduler, chunks)
    return chunks


def count(scheduler: Scheduler, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        draws = chunk.draws
        scheduler.advance([chunk], [0])
        if draws:
            chunk.sequence.tokens.append(7)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 90)), min_size=1, max_size=7),
    priorities=st.lists(st.integers(-1, 1), min_size=7, max_size=7),
    shared=st.sampled_from([None, 0, 70, 130, 200]),
    spare=st.integers(0, 6),
    max_tokens=st.integers(1, 150),
    max_sequences=st.integers(1, 8),
    max_draft=st.integers(0, 9),
)
@settings(max_examples=150, deadline=None)
def test_every_sequence_gets_what_it_would_get_alone(
    lengths: list[tuple[int, int]],
    priorities: list[int],
    shared: int | None,
    spare: int,
    max_tokens: int,
    max_sequences: int,
    max_draft: int,
) -> None:
    """`shared` None: without a prefix cache."""
    together, alone = made(lengths, shared=shared or 0), made(lengths, shared=shared or 0)
    least = max(pages_for(n + more) for n, more in lengths)
    scheduler = Scheduler(
        PagePool(least + spare),
        max_tokens=max_tokens,
        max_sequences=max_sequences,
        lengths=Always(max_draft) if max_draft else None,
        prefix_cache=shared is not None,
    )
    for sequence, priority in zip(together, priorities, strict=False):
        sequence.priority = priority
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


def test_the_important_come_first_and_among_equals_the_first() -> None:
    scheduler = Scheduler(PagePool(64), max_tokens=8, max_sequences=1)
    sequences = made([(4, 1)] * 5)
    for sequence, priority in zip(sequences, (0, 1, 0, -3, 1), strict=True):
        sequence.priority = priority
        scheduler.add(sequence)
    served = []
    while scheduler.busy:
        served += [sequences.index(chunk.sequence) for chunk in run_step(scheduler)]
        scheduler.remove(scheduler.running[0])
    assert served == [3, 0, 2, 1, 4]


@pytest.mark.parametrize(
    ("priorities", "victim"), [((0, 0, 0), 2), ((5, 0, 0), 0), ((0, 1, 0), 1), ((1, 1, 0), 1)]
)
def test_the_least_important_gives_way_and_of_these_the_youngest(
    priorities: tuple[int, ...], victim: int
) -> None:
    """All three need a page at once and one is left; who gave way comes back in its old rank."""
    scheduler = Scheduler(PagePool(4), max_tokens=256, max_sequences=3)
    sequences = made([(PAGE, PAGE)] * 3)
    for sequence, priority in zip(sequences, priorities, strict=True):
        sequence.priority = priority
        scheduler.add(sequence)
    run_step(scheduler)
    assert len(scheduler.running) == 3
    run_step(scheduler)
    assert (scheduler.waiting, scheduler.preemptions) == ([sequences[victim]], 1)
    later = Sequence([1], GREEDY, 2, priority=priorities[victim])
    scheduler.add(later)
    assert scheduler.waiting == [sequences[victim], later]


def test_a_short_prompt_passes_a_long_one_and_the_long_one_goes_on() -> None:
    scheduler = Scheduler(PagePool(200), max_tokens=100, max_sequences=8)
    long, *chats = made([(4000, 9), (60, 9), (60, 9), (70, 9)])
    scheduler.add(long)
    run_step(scheduler)
    for chat in chats:
        scheduler.add(chat)
    assert [(c.sequence, c.size) for c in run_step(scheduler)] == [(long, 25), (chats[0], 60), (chats[1], 15)]
    after = run_step(scheduler)  # one of them decodes
    assert [(c.sequence, c.size) for c in after] == [
        (chats[0], 1),
        (long, 25),
        (chats[1], 45),
        (chats[2], 29),
    ]


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 9), st.integers(-1, 1)), max_size=12),
    st.integers(1, 70),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_the_oldest_prompt_always_gets_a_quarter_and_no_token_is_left_over(
    others: list[tuple[int, int, int]], max_tokens: int, prefix_cache: bool
) -> None:
    """However many come after it, and however short or important they are."""
    scheduler = Scheduler(PagePool(100), max_tokens=max_tokens, max_sequences=16, prefix_cache=prefix_cache)
    (oldest,) = made([(600, 1)])
    scheduler.add(oldest)
    run_step(scheduler)
    later = made([(n, more) for n, more, _ in others], seed=1)
    for sequence, (_, _, priority) in zip(later, others, strict=True):
        sequence.priority = priority
        scheduler.add(sequence)
    while not oldest.full:
        decoding = sum(s.missing == 1 for s in scheduler.running)
        chunks = scheduler.schedule()
        own = sum(chunk.size for chunk in chunks if chunk.sequence is oldest)
        assert own >= min(oldest.missing, (max_tokens - decoding) / 4)
        wanted = sum(sequence.missing for sequence in scheduler.running)
        assert sum(chunk.size for chunk in chunks) == min(max_tokens, wanted)
        count(scheduler, chunks)
        for sequence in [s for s in scheduler.running if s.full]:
            scheduler.remove(sequence)


def test_places_and_pages_open_the_door_not_the_tokens_of_a_step() -> None:
    scheduler = Scheduler(PagePool(10), max_tokens=8, max_sequences=3)
    sequences = made([(300, 1), (5, 1), (200, 1), (5, 1)])
    for sequence in sequences:
        scheduler.add(sequence)
    scheduler.schedule()
    assert scheduler.running == sequences[:3]
    scheduler.remove(sequences[1])
    scheduler.schedule()
    assert scheduler.running == [sequences[0], sequences[2], sequences[3]]


def test_nobody_passes_one_that_waits_for_pages_but_who_is_more_important() -> None:
    scheduler = Scheduler(PagePool(4), max_tokens=256, max_sequences=8)
    running, large, small, urgent = made([(2 * PAGE, 5), (3 * PAGE, 1), (1, 1), (1, 1)])
    urgent.priority = -1
    scheduler.add(running)
    run_step(scheduler)
    for sequence in (large, small):
        scheduler.add(sequence)
    run_step(scheduler)
    assert scheduler.waiting == [large, small]
    scheduler.add(urgent)
    run_step(scheduler)
    assert (scheduler.running, scheduler.waiting) == ([urgent, running], [large, small])


def test_a_step_that_did_not_take_place_costs_no_page() -> None:
    scheduler = Scheduler(PagePool(4), max_tokens=256, max_sequences=2, lengths=Always(9))
    sequences = made([(PAGE - 4, 100), (30, 100)])
    for sequence in sequences:
        scheduler.add(sequence)
    chunks = scheduler.schedule()
    assert ([chunk.drafts for chunk in chunks], scheduler.pool.available) == ([9, 9], 1)
    scheduler.cancel(chunks)
    assert scheduler.pool.available == 2
    assert scheduler.schedule() == chunks


def test_what_is_used_outside_makes_all_wait() -> None:
    scheduler = Scheduler(PagePool(2), max_tokens=256, max_sequences=2)
    held = scheduler.pool.allocate(1)
    for sequence in made([(PAGE + 1, 1), (1, 1)]):
        scheduler.add(sequence)
    assert scheduler.schedule() == []
    scheduler.pool.free(held)
    assert len(scheduler.schedule()) == 1


def test_one_computes_what_many_begin_with() -> None:
    """They wait for each page that another is computing, and use it then."""
    scheduler = Scheduler(PagePool(100), max_tokens=512, max_sequences=16, prefix_cache=True)
    sequences = made([(4 * PAGE + 10, 1)] * 16, shared=4 * PAGE)
    for sequence in sequences:
        scheduler.add(sequence)
    assert [(c.sequence, c.size) for c in run_step(scheduler)] == [(sequences[0], 4 * PAGE + 10)]
    assert [c.size for c in run_step(scheduler)] == [1] + 15 * [10]
    assert len({page for s in sequences for page in s.pages}) == 4 + 16
    assert (scheduler.prefix_queries, scheduler.prefix_hits) == (16 * (4 * PAGE + 10), 15 * 4 * PAGE)
    assert [s.cached for s in sequences] == [0] + 15 * [4 * PAGE]


def test_a_prompt_waits_for_any_that_computes_its_page() -> None:
    """Not for the oldest alone; and only for pages that it would use."""
    scheduler = Scheduler(PagePool(100), max_tokens=512, max_sequences=16, prefix_cache=True)
    (document,) = made([(2000, 1)])
    chats = made([(PAGE + 1, 1), (PAGE + 2, 1), (PAGE, 1)], shared=PAGE, seed=1)
    for sequence in (document, *chats):
        scheduler.add(sequence)
    assert [(c.sequence, c.size) for c in run_step(scheduler)] == [(document, 448), (chats[2], PAGE)]
    scheduler.remove(chats[2])
    assert [(c.sequence, c.size) for c in run_step(scheduler)] == [
        (document, 509),
        (chats[0], 1),
        (chats[1], 2),
    ]


def test_who_comes_back_to_nothing_is_known_again() -> None:
    """Its pages were given away meanwhile."""
    scheduler = Scheduler(PagePool(4), max_tokens=256, max_sequences=2, prefix_cache=True)
    first, second = made([(2 * PAGE, 2 * PAGE + 1), (2 * PAGE, 2)])
    first.limit = 4 * PAGE
    for sequence in (first, second):
        scheduler.add(sequence)
    while not first.full:
        run_step(scheduler)
    assert (scheduler.waiting, second.computed) == ([second], 0)
    keys = second.chain.keys(second.tokens, 0, 2)
    assert scheduler.pool.find(keys) == []
    scheduler.remove(first)
    run_step(scheduler)
    assert scheduler.pool.find(keys) == second.pages[:2]


def test_who_comes_back_finds_its_pages_and_counts_no_hit() -> None:
    scheduler = Scheduler(PagePool(4), max_tokens=256, max_sequences=2, prefix_cache=True)
    first, second = made([(PAGE, PAGE + 1), (2 * PAGE, 9)])
    for sequence in (first, second):
        scheduler.add(sequence)
    run_step(scheduler)
    assert run_step(scheduler) == [Chunk(first, 1)]
    assert scheduler.waiting == [second]
    counts = scheduler.prefix_queries, scheduler.prefix_hits
    scheduler.remove(first)
    assert run_step(scheduler) == [Chunk(second, 1)]
    assert (scheduler.prefix_queries, scheduler.prefix_hits) == counts == (3 * PAGE, 0)

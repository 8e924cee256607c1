"""Steps are filled by effort: deep in a long prompt they have fewer tokens, and take as long."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from intaglio.engine.effort import SLOWER, Effort, effort
from intaglio.engine.pages import PagePool
from intaglio.engine.scheduler import Chunk, Scheduler
from intaglio.models.spec import Layer
from tests.engine.small import plain
from tests.engine.test_scheduler import count, made


@given(
    position=st.integers(0, 10_000),
    spend=st.floats(-5, 3_000),
    most=st.integers(0, 700),
    reach=st.floats(50, 1e6),
    windows=st.lists(st.sampled_from([None, 64, 1000]), min_size=1, max_size=3),
)
def test_as_many_tokens_as_spend_it(
    position: int, spend: float, most: int, reach: float, windows: list[int | None]
) -> None:
    """One fewer would not; unless there are no more."""
    of = Effort(reach, Counter(windows)).of
    tokens = Effort(reach, Counter(windows)).tokens(position, spend, most)
    assert 0 <= tokens <= most
    assert tokens == most or of(position, tokens) >= spend
    assert tokens == 0 or of(position, tokens - 1) < spend


def test_chunks_are_additive_where_no_window_begins() -> None:
    whole = Effort(900.0)
    assert math.isclose(whole.of(10, 70) + whole.of(80, 40), whole.of(10, 110))


def test_a_window_bounds_what_a_token_costs() -> None:
    local, both = Effort(100.0, {50: 3}), Effort(100.0, {50: 2, None: 2})
    assert local.of(10_000, 8) == local.of(200, 8) == 8 * 1.5
    assert both.of(996, 8) == 8 * (1 + (50 + 1000) / 2 / 100)


def test_a_models_reach_follows_from_its_shape() -> None:
    spec = plain("llama").spec
    hidden, heads, kv = spec.hidden_size, spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    matrices = hidden * (2 * heads + 2 * kv + 3 * spec.intermediate_size)
    assert effort(spec) == Effort(matrices / (SLOWER * 2 * heads), {None: spec.num_layers})


def test_layers_of_one_window_count_together() -> None:
    layers = (Layer(window=7), Layer(), Layer(window=7))
    assert effort(replace(plain("llama").spec, layers=layers)).windows == {7: 2, None: 1}


def test_no_step_of_a_long_prompt_takes_longer_than_a_full_step_of_a_fresh_one() -> None:
    price = Effort(300.0)
    scheduler = Scheduler(PagePool(200), max_tokens=100, max_sequences=8, effort=price)
    (long,) = made([(4000, 2)])
    scheduler.add(long)
    most, sizes = price.of(0, 100) + price.of(4000, 1), []
    while long.missing > 1:
        chunks = scheduler.schedule()
        sizes.append(chunks[0].size)
        assert spent(price, chunks) <= most
        count(scheduler, chunks)
    assert sizes[0] == 100
    assert max(sizes[-3:]) < 10
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)  # the last is what was left


def test_a_chat_passes_a_long_prompt_that_is_deep_in_its_work() -> None:
    price = Effort(300.0)
    scheduler = Scheduler(PagePool(200), max_tokens=100, max_sequences=8, effort=price)
    long, chat = made([(4000, 2), (60, 9)])
    scheduler.add(long)
    while long.computed < 3000:
        count(scheduler, scheduler.schedule())
    scheduler.add(chat)
    chunks = scheduler.schedule()
    assert Chunk(chat, 60) in chunks
    assert 1 <= next(chunk.size for chunk in chunks if chunk.sequence is long) < 10
    assert spent(price, chunks) <= price.of(0, 100) + price.of(4000, 1)


def test_a_prompt_goes_on_beside_answers_that_cost_the_whole_step() -> None:
    scheduler = Scheduler(PagePool(200), max_tokens=8, max_sequences=8, effort=Effort(1.0))
    old, new = made([(500, 50), (20, 2)])
    scheduler.add(old)
    while old.missing != 1:
        count(scheduler, scheduler.schedule())
    scheduler.add(new)
    assert scheduler.schedule() == [Chunk(old, 1), Chunk(new, 1)]


def spent(price: Effort, chunks: list[Chunk]) -> float:
    return sum(price.of(chunk.sequence.computed, chunk.size) for chunk in chunks)

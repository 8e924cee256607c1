"""The policy alone: which drafts are worth their rows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.engine.draft_length import FORGET, PROBE, DraftLengths, DraftRecord, StepCost, best_lengths


def flat(n: int) -> float:
    return 1.0


def test_free_rows_are_all_used_and_dear_ones_not() -> None:
    assert best_lengths([0.5], [8], 8, flat) == [8]
    assert best_lengths([0.5], [8], 8, lambda n: 1.0 + n) == [0]
    assert best_lengths([0.0], [8], 8, lambda n: 1.0 + 0.01 * n) == [0]


def test_the_best_length_is_that_of_the_formula() -> None:
    """(1 + a + ... + a^k) / (1 + 0.1 k), searched in full."""
    for a in (0.3, 0.5, 0.8, 0.9, 0.95):
        rates = [sum(a**j for j in range(k + 1)) / (1 + 0.1 * k) for k in range(17)]
        assert best_lengths([a], [16], 16, lambda n: 1 + 0.1 * n) == [rates.index(max(rates))]


@given(
    st.lists(st.tuples(st.floats(0, 0.99), st.integers(0, 4)), min_size=1, max_size=3),
    st.integers(0, 9),
    st.lists(st.floats(0, 0.5), min_size=13, max_size=13),
)
@settings(max_examples=100, deadline=None)
def test_no_other_lengths_are_better(
    sequences: list[tuple[float, int]], budget: int, increments: list[float]
) -> None:
    """Whatever a step costs, in tiles or in a line, as long as more rows cost no less."""
    seconds = [1.0, *(1.0 + x for x in itertools.accumulate(increments))]

    def worth(lengths: tuple[int, ...]) -> float:
        gained = sum(sum(a**j for j in range(k + 1)) for (a, _), k in zip(sequences, lengths, strict=True))
        return gained / seconds[sum(lengths)]

    rates, rooms = [a for a, _ in sequences], [room for _, room in sequences]
    found = best_lengths(rates, rooms, budget, seconds.__getitem__)
    assert sum(found) <= budget
    assert all(k <= room for k, room in zip(found, rooms, strict=True))
    every = itertools.product(*(range(room + 1) for room in rooms))
    assert worth(tuple(found)) >= max(worth(k) for k in every if sum(k) <= budget) - 1e-9


def run(true_rate: float, cost: float, steps: int) -> list[int]:
    """Lengths chosen while drafts are right with `true_rate` and a row costs `cost` of a step."""
    policy, record, lengths, credit = DraftLengths(8), DraftRecord(), [], 0.0
    for _ in range(steps):
        (k,) = policy.choose([record], [8], 1, 100)
        lengths.append(k)
        right = 0
        while right < k:
            credit += true_rate
            if credit < 1:
                break
            credit -= 1
            right += 1
        record.observe(k, right)
        policy.observe(1 + k, 1.0 + cost * k, k, 0.0)
    return lengths


def test_good_drafts_become_long_and_hopeless_ones_none() -> None:
    assert min(run(0.99, 0.05, 200)[100:]) >= 7
    hopeless = run(0.0, 0.1, 400)
    assert hopeless[0] > 0
    assert sum(hopeless[100:]) <= 300 / PROBE + 1 + 8  # probes, and once a size was forgotten
    assert max(hopeless[100:FORGET]) == 1


def test_dear_rows_need_better_drafts() -> None:
    cheap, dear = (sum(run(0.6, cost, 200)[100:]) for cost in (0.02, 0.5))
    assert cheap > 3 * dear


def test_a_sequence_that_becomes_predictable_is_found_again() -> None:
    policy, record = DraftLengths(8), DraftRecord()
    lengths = []
    for step in range(600):
        (k,) = policy.choose([record], [8], 1, 100)
        record.observe(k, k if step > 200 else 0)
        policy.observe(1 + k, 1.0 + 0.1 * k, k, 0.0)
        lengths.append(k)
    assert max(lengths[100:200]) <= 1
    assert min(lengths[-50:]) >= 7


def test_what_drafting_costs_counts() -> None:
    policy, record = DraftLengths(8), DraftRecord()
    for _ in range(50):
        for k in (0, 4, 8):
            policy.observe(1 + k, 1.0 + 0.01 * k, k, float(k))
    assert policy.choose([record], [8], 1, 100) == [0]
    assert DraftLengths(8).choose([record], [8], 1, 100) == [8]


def test_step_costs_are_means_on_lines_and_outliers_fade() -> None:
    cost = StepCost()
    assert cost.seconds(5) > cost.seconds(1)
    cost.observe(2, 1.0)
    cost.observe(6, 3.0)
    assert [cost.seconds(n) for n in (1, 2, 4, 6)] == [0.5, 1.0, 2.0, 3.0]
    assert 3.0 < cost.seconds(7) < 3.1
    cost.observe(6, 1000.0)
    assert cost.seconds(6) < 5
    for _ in range(2 * FORGET):
        cost.observe(2, 1.0)
    assert cost.seconds(6) == pytest.approx(1.08)


def test_rates_follow_what_was_seen() -> None:
    record = DraftRecord()
    for _ in range(60):
        record.observe(8, 3)  # three right, then one wrong
    assert record.rate == pytest.approx(0.75, abs=0.01)
    for _ in range(60):
        record.observe(2, 2)
    assert record.rate == pytest.approx(1.0, abs=0.01)
    assert (record.drafted, record.accepted) == (60 * 10, 60 * 5)
    before = record.rate
    record.observe(0, 0)
    assert record.rate == before

"""Prompt lookup: what is found, beside a search of the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.engine.sampling import GREEDY
from intaglio.engine.sequence import Sequence
from intaglio.engine.speculative import PromptLookup
from intaglio.errors import UsageError


def searched(tokens: list[int], count: int, longest: int, shortest: int) -> list[int]:
    """The definition: the longest ending that occurred before, its last occurrence, and what followed."""
    for n in range(min(longest, len(tokens) - 1), shortest - 1, -1):
        for end in range(len(tokens) - 1, n - 1, -1):
            if tokens[end - n : end] == tokens[-n:]:
                text = list(tokens)
                for i in range(count):
                    text.append(text[end + i])
                return text[len(tokens) :]
    return []


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.integers(1, 5), max_size=8),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_growing_text_is_searched_as_a_whole(tokens: list[int], cuts: list[int], a: int, b: int) -> None:
    lookup = PromptLookup(max(a, b), min(a, b))
    sequence = Sequence(tokens[:1], GREEDY, 100)
    for grown in [*cuts, len(tokens)]:
        sequence.tokens += tokens[len(sequence.tokens) : len(sequence.tokens) + grown]
        expected = searched(sequence.tokens, 5, max(a, b), min(a, b))
        assert lookup.propose([(sequence, 5), (sequence, 0)]) == [expected, []]


def test_a_draft_goes_on_with_the_period() -> None:
    sequence = Sequence([7, 1, 2, 1, 2], GREEDY, 100)
    assert PromptLookup().propose([(sequence, 5)]) == [[1, 2, 1, 2, 1]]


def test_sequences_are_told_apart_and_forgotten() -> None:
    lookup = PromptLookup()
    one, two = Sequence([1, 2, 1], GREEDY, 9), Sequence([1, 3, 1], GREEDY, 9)
    assert lookup.propose([(one, 1), (two, 1)]) == [[2], [3]]
    lookup.drop(one)
    lookup.drop(one)
    assert lookup.propose([(one, 1)]) == [[2]]


@pytest.mark.parametrize("lengths", [(0, 0), (1, 2), (3, 0)])
def test_senseless_lengths_are_refused(lengths: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="expected 1 <= min <= max"):
        PromptLookup(*lengths)

"""Keys of pages: equal for equal texts and salts, and for nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intaglio.engine.chain import Chain
from intaglio.engine.pages import PAGE


def page(*first: int) -> list[int]:
    return [*first, *[0] * (PAGE - len(first))]


PAGES = st.lists(st.sampled_from([page(), page(1), page(0, 1), page(256), page(2**31 - 1)]), max_size=4)
SALTS = st.sampled_from([None, "", "a", "b", "\ud800", "salt"])


@given(PAGES, PAGES, SALTS, SALTS)
def test_keys_are_equal_where_all_before_is(
    one: list[list[int]], other: list[list[int]], salt: str | None, other_salt: str | None
) -> None:
    mine, theirs = (
        Chain(s).keys([token for each in pages for token in each], 0, len(pages))
        for s, pages in ((salt, one), (other_salt, other))
    )
    for i, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        assert (a == b) == (salt == other_salt and one[: i + 1] == other[: i + 1])
    assert len(set(mine)) == len(mine)
    assert all(len(key) == 32 for key in mine)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=3 * PAGE, max_size=4 * PAGE), st.integers(0, 3))
def test_a_growing_text_keeps_its_keys(tokens: list[int], first: int) -> None:
    whole, growing = Chain("s"), Chain("s")
    expected = whole.keys(tokens, 0, 3)
    for end in range(first, 4):
        assert growing.keys(tokens[: end * PAGE], first, end) == expected[first:end]

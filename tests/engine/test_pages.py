from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.engine.pages import PAGE, PagePool, pages_for
from intaglio.errors import IntaglioError


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (PAGE, 1), (PAGE + 1, 2), (10 * PAGE - 1, 10)])
def test_pages_for(tokens: int, pages: int) -> None:
    assert pages_for(tokens) == pages


def test_running_out_names_the_numbers_and_takes_nothing() -> None:
    pool = PagePool(3)
    pool.allocate(2)
    with pytest.raises(IntaglioError, match=r"2 needed \(128 tokens\), 1 of 3 free"):
        pool.allocate(2)
    assert pool.available == 1


def test_shared_pages_are_free_after_their_last_user() -> None:
    pool = PagePool(2)
    pages = pool.allocate(1)
    pool.share(pages)
    pool.free(pages)
    assert pool.available == 1
    pool.free(pages)
    assert pool.available == 2


@pytest.mark.parametrize("page", [-1, 0, 5])
def test_freeing_what_is_not_in_use_is_refused(page: int) -> None:
    with pytest.raises(IntaglioError, match="not in use"):
        PagePool(5).free([page])


@given(st.lists(st.integers(0, 5), max_size=40))
def test_a_page_has_one_owner(counts: list[int]) -> None:
    """Allocations of 1..5 pages and (0) frees of the oldest: ids in use are distinct, none is lost."""
    pool, held = PagePool(16), []
    for count in counts:
        if count == 0 and held:
            pool.free(held.pop(0))
        elif 0 < count <= pool.available:
            held.append(pool.allocate(count))
        flat = [page for pages in held for page in pages]
        assert len(set(flat)) == len(flat) == pool.count - pool.available

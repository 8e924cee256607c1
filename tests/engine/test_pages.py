from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
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
    assert (pool.available, pool.used) == (1, 0.5)
    pool.free(pages)
    assert (pool.available, pool.used) == (2, 0.0)


@pytest.mark.parametrize("page", [-1, 0, 5])
def test_what_is_not_in_use_cannot_be_freed_shared_or_remembered(page: int) -> None:
    pool = PagePool(5)
    for wrong in (pool.free, pool.share, lambda pages: pool.remember(pages[0], b"key")):
        with pytest.raises(IntaglioError, match="not in use"):
            wrong([page])
    assert (pool.available, pool.find([b"key"])) == (5, [])


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


def test_what_is_known_is_kept_until_its_memory_is_needed_the_oldest_goes_first() -> None:
    pool = PagePool(3)
    pages = pool.allocate(3)
    for page, key in zip(pages, (b"a", b"b", b"c"), strict=True):
        assert pool.remember(page, key) == page
    for page in pages:
        pool.free([page])
    assert (pool.available, pool.kept) == (3, 3)
    assert pool.find([b"b", b"c", b"x", b"a"]) == pages[1:]
    pool.share(pages[:1])
    pool.free(pages[:1])  # used last
    assert pool.allocate(1) == pages[1:2]
    assert pool.find([b"b"]) == []
    assert pool.find([b"a", b"c"]) == [pages[0], pages[2]]
    assert pool.allocate(2) == [pages[2], pages[0]]
    assert (pool.available, pool.kept) == (0, 0)


def test_what_is_known_twice_is_kept_once() -> None:
    pool = PagePool(2)
    first, second = pool.allocate(2)
    assert pool.remember(first, b"a") == first
    assert pool.remember(first, b"a") == first
    assert pool.remember(second, b"a") == first
    assert pool.available == 1
    pool.free([first])
    assert (pool.available, pool.kept) == (1, 0)
    pool.free([first])
    assert (pool.available, pool.kept) == (2, 1)


class Texts:
    """Sequences over one pool: a text is a row of letters, each fills a page; a key is the text up to it."""

    def __init__(self, count: int) -> None:
        self.pool = PagePool(count)
        self.open: list[tuple[bytes, list[int], int]] = []  # text, pages, how many are known

    def begin(self, text: bytes) -> None:
        """Takes the pages that are known and new ones for the rest, if there are enough."""
        found = self.pool.find(self._keys(text))
        self.pool.share(found)
        if len(text) - len(found) > self.pool.available:
            self.pool.free(found)
            return
        pages = found + self.pool.allocate(len(text) - len(found))
        self.open.append((text, pages, len(found)))

    def compute(self, which: int) -> None:
        """One more page of this text is known."""
        text, pages, known = self.open[which]
        if known < len(text):
            pages[known] = self.pool.remember(pages[known], text[: known + 1])
            self.open[which] = text, pages, known + 1

    def end(self, which: int) -> None:
        self.pool.free(self.open.pop(which)[1])

    def finish(self, which: int) -> None:
        for _ in self.open[which][0]:
            self.compute(which)
        self.end(which)

    @staticmethod
    def _keys(text: bytes) -> list[bytes]:
        return [text[: i + 1] for i in range(len(text))]

    def check(self) -> None:
        pool = self.pool
        users = Counter(page for _, pages, _ in self.open for page in pages)
        assert [users[page] for page in range(pool.count)] == pool._users
        free, kept, used = set(pool._free), set(pool._kept), set(users)
        assert len(pool._free) + len(pool._kept) + len(used) == pool.count
        assert free | kept | used == set(range(pool.count))
        assert pool.available == len(free) + len(kept)
        assert {page: key for key, page in pool._page_of.items()} == pool._key_of
        assert kept <= set(pool._key_of)
        for key in pool._page_of:  # or it could not be found
            assert len(key) == 1 or key[:-1] in pool._page_of
        for text, pages, known in self.open:
            assert pool.find(self._keys(text[:known])) == pages[:known]


ACTIONS = st.one_of(
    st.tuples(st.just("begin"), st.lists(st.sampled_from(b"ab"), min_size=1, max_size=5).map(bytes)),
    st.tuples(st.sampled_from(["compute", "end", "finish"]), st.integers(0, 5)),
)


@given(st.integers(1, 9), st.lists(ACTIONS, max_size=60))
@settings(max_examples=300, deadline=None)
def test_pages_are_free_kept_or_used_and_found_as_long_as_they_are_known(
    count: int, actions: list[tuple[str, bytes | int]]
) -> None:
    texts = Texts(count)
    for name, what in actions:
        if name == "begin":
            texts.begin(what)  # type: ignore[arg-type]
        elif texts.open:
            getattr(texts, name)(what % len(texts.open))  # type: ignore[operator]
        texts.check()

"""Pages: which pages of the KV memory are in use, by how many, and which are worth keeping."""

from __future__ import annotations

from collections.abc import Iterable

from intaglio.errors import IntaglioError

PAGE = 64  # tokens in a page, kPage of native/kernels.h


class OutOfPages(IntaglioError):  # noqa: N818 - reads as what it says
    """Not now: there will be more when a sequence ends."""


def pages_for(tokens: int) -> int:
    """How many pages hold `tokens` tokens."""
    return -(-tokens // PAGE)


class PagePool:
    """A fixed number of page ids, each with the number of its users.

    An id without users is free, or kept: its content has a key by which it can be found and used again. When
    free ids run out, the one kept unused for longest is given away. Users of a page whose key follows from
    another's use that one too, and give their pages back last page first: so no page is given away before
    those that could not be found without it.
    """

    def __init__(self, count: int) -> None:
        self._users = [0] * count
        self._free = list(range(count - 1, -1, -1))  # the last freed goes first: its memory is warm
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._kept: dict[int, None] = {}  # unused longest first

    @property
    def count(self) -> int:
        """All pages, free or not."""
        return len(self._users)

    @property
    def available(self) -> int:
        """Pages that can be allocated: free, or kept and unused."""
        return len(self._free) + len(self._kept)

    @property
    def kept(self) -> int:
        """Of these, the kept ones."""
        return len(self._kept)

    @property
    def used(self) -> float:
        """The share of all pages that have users, 0 to 1."""
        return 1 - self.available / self.count

    def allocate(self, count: int) -> list[int]:
        """`count` pages with one user each, or OutOfPages and none taken."""
        if count > self.available:
            raise OutOfPages(
                f"out of KV pages: {count} needed ({count * PAGE} tokens), {self.available} of {self.count}"
                " free; wait for a sequence to finish, or open the model with more pages"
            )
        taken = [self._free.pop() if self._free else self._give_away() for _ in range(count)]
        for page in taken:
            self._users[page] = 1
        return taken

    def share(self, pages: Iterable[int]) -> None:
        """One more user for each page, which is in use or kept."""
        for page in pages:
            if page in self._kept:
                del self._kept[page]
            else:
                self._check_used(page)
            self._users[page] += 1

    def free(self, pages: Iterable[int]) -> None:
        """One user less for each page of a sequence; without users it is kept, or can be allocated again."""
        for page in reversed(list(pages)):
            self._check_used(page)
            self._users[page] -= 1
            if self._users[page]:
                continue
            if page in self._key_of:
                self._kept[page] = None
            else:
                self._free.append(page)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The pages of the first of these keys, up to the first unknown one."""
        found = []
        for key in keys:
            if (page := self._page_of.get(key)) is None:
                break
            found.append(page)
        return found

    def remember(self, page: int, key: bytes) -> int:
        """`page`, which is in use, has the content of `key` -> the page its user is to use for it.

        That is another one when the content is known already; `page` then has one user less.
        """
        known = self._page_of.get(key)
        if known == page:
            return page
        if known is not None:
            self.share([known])
            self.free([page])
            return known
        self._check_used(page)
        self._page_of[key] = page
        self._key_of[page] = key
        return page

    def _give_away(self) -> int:
        page = next(iter(self._kept))
        del self._kept[page]
        del self._page_of[self._key_of.pop(page)]
        return page

    def _check_used(self, page: int) -> None:
        if not 0 <= page < self.count or not self._users[page]:
            raise IntaglioError(f"KV page {page} is not in use; ids in use are among 0..{self.count - 1}")

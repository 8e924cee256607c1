"""Pages: which pages of the KV memory are in use, and by how many."""

from __future__ import annotations

from collections.abc import Iterable

from intaglio.errors import IntaglioError

PAGE = 64  # tokens in a page, kPage of native/kernels.h


def pages_for(tokens: int) -> int:
    """How many pages hold `tokens` tokens."""
    return -(-tokens // PAGE)


class PagePool:
    """A fixed number of page ids, each with the number of its users; an id without users is free."""

    def __init__(self, count: int) -> None:
        self._users = [0] * count
        self._free = list(range(count - 1, -1, -1))  # the last freed goes first: its memory is warm

    @property
    def count(self) -> int:
        """All pages, free or not."""
        return len(self._users)

    @property
    def available(self) -> int:
        """Free pages."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """`count` free pages with one user each, or an error and none taken."""
        if count > len(self._free):
            raise IntaglioError(
                f"out of KV pages: {count} needed ({count * PAGE} tokens), {len(self._free)} of {self.count}"
                " free; wait for a sequence to finish, or open the model with more pages"
            )
        taken = [self._free.pop() for _ in range(count)]
        for page in taken:
            self._users[page] = 1
        return taken

    def share(self, pages: Iterable[int]) -> None:
        """One more user for each page."""
        for page in pages:
            self._check_used(page)
            self._users[page] += 1

    def free(self, pages: Iterable[int]) -> None:
        """One user less for each page; without users it can be allocated again."""
        for page in pages:
            self._check_used(page)
            self._users[page] -= 1
            if not self._users[page]:
                self._free.append(page)

    def _check_used(self, page: int) -> None:
        if not 0 <= page < self.count or not self._users[page]:
            raise IntaglioError(f"KV page {page} is not in use; ids in use are among 0..{self.count - 1}")

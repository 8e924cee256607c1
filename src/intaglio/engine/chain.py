"""Chains: the pages of a text by name, so that equal texts are found.

A page's key is the BLAKE2b digest (256 bits: nobody can make two texts of one key) of its tokens and the key
of the page before it. Equal keys therefore mean equal tokens from the first one on, and equal salts.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

from intaglio.engine.pages import PAGE


class Chain:
    """The keys of a growing text's full pages. Texts of different `salt` have no key in common."""

    def __init__(self, salt: str | None = None) -> None:
        self._root = b"" if salt is None else _digest(salt.encode(errors="surrogatepass"), b"salt")
        self._keys: list[bytes] = []

    def keys(self, tokens: Sequence[int], first: int, end: int) -> list[bytes]:
        """Of the pages [first, end), which `tokens` fill; they begin as those asked about before."""
        for page in range(len(self._keys), end):
            before = self._keys[-1] if self._keys else self._root
            packed = struct.pack(f"<{PAGE}i", *tokens[page * PAGE : (page + 1) * PAGE])
            self._keys.append(_digest(before + packed, b"page"))
        return self._keys[first:end]


def _digest(content: bytes, purpose: bytes) -> bytes:
    return blake2b(content, digest_size=32, person=purpose).digest()

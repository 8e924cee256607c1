"""Largest: what a linear reads, thinned at run time to the n largest of every m (TASD-A, 2403.07953)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class Largest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="nm"):
    """Of every m neighbouring inputs of a token the n with the largest |x| stay as they are, the rest is 0.

    Of equal ones the first. A series of views with the same m keeps what one of their summed n keeps.
    """

    n: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    m: Literal[4, 8, 16] = 4

    def __post_init__(self) -> None:
        if self.n > self.m:
            raise ValueError(f"a block of m = {self.m} inputs has no n = {self.n} to keep")

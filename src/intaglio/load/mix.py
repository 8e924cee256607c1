"""Mix: what kinds of requests a load is made of."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from random import Random

import msgspec

from intaglio.errors import UsageError

LONGEST = 1 << 20  # tokens
PART = re.compile(r"(?P<name>[^:,/\s]+):(?P<input>\d+)/(?P<output>\d+)(?::(?P<share>\d*\.?\d+))?")


class Part(msgspec.Struct, frozen=True):
    """Requests of one kind: tokens in, tokens out at most, and how many of all they are."""

    name: str
    input: int
    output: int
    share: float = 1.0


def mix(text: str) -> tuple[Part, ...]:
    """`short:64/64:0.9,long:4096/64:0.1` -> parts whose shares sum to 1; a share not given is 1."""
    found = [_part(one.strip()) for one in text.split(",") if one.strip()]
    names = [part.name for part in found]
    if not found or len(set(names)) < len(names):
        raise UsageError(
            f"--mix {text}: expected parts with different names, as in short:64/64:0.9,long:4096/64"
        )
    total = sum(part.share for part in found)
    return tuple(Part(part.name, part.input, part.output, part.share / total) for part in found)


def _part(text: str) -> Part:
    match = PART.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--mix: {text!r} is no part; expected NAME:INPUT/OUTPUT:SHARE, as in short:64/64:0.9"
        )
    part = Part(match["name"], int(match["input"]), int(match["output"]), float(match["share"] or 1))
    if not (0 < part.input <= LONGEST and 0 < part.output <= LONGEST and 0 < part.share < math.inf):
        raise UsageError(f"--mix: {text!r}: lengths are 1 to {LONGEST} tokens, shares more than 0")
    if part.name == "all":
        raise UsageError("--mix: all is what every part together is called; choose another name")
    return part


def shuffled(parts: Sequence[Part], count: int, random: Random) -> list[Part]:
    """`count` parts, each as often as its share says to within one, in a random order."""
    whole = [math.floor(part.share * count) for part in parts]
    most_missed = sorted(range(len(parts)), key=lambda i: whole[i] - parts[i].share * count)
    for index in most_missed[: count - sum(whole)]:
        whole[index] += 1
    drawn = [part for part, times in zip(parts, whole, strict=True) for _ in range(times)]
    random.shuffle(drawn)
    return drawn


def near(length: int, ratio: float, random: Random) -> int:
    """A length drawn evenly from `length` ± `ratio` of it, at least 1."""
    return max(1, random.randint(math.floor(length * (1 - ratio)), math.ceil(length * (1 + ratio))))

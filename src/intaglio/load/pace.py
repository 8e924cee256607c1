"""Pace: when requests are sent."""

from __future__ import annotations

import math
from itertools import accumulate
from random import Random

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """`rate` requests a second, however slow the server is; infinite: the next as soon as there is a place.

    `burstiness`: shape of the gamma distribution that gaps are drawn from: 1 is a Poisson process, less comes
    in bursts, more is more even. `concurrency`: how many may be under way at once.
    """

    rate: float = math.inf
    burstiness: float = 1.0
    concurrency: int | None = None

    @property
    def open(self) -> bool:
        """Whether there is a schedule that the server cannot slow down."""
        return math.isfinite(self.rate)

    def arrivals(self, count: int, seed: str) -> list[float]:
        """Seconds after the start at which requests are due, the first after one gap."""
        random = Random(f"{seed}:arrivals")
        scale = 1 / (self.rate * self.burstiness)
        return list(accumulate(random.gammavariate(self.burstiness, scale) for _ in range(count)))

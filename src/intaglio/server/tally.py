"""A tally: how often values fell into which bucket: a Prometheus histogram of one writer, without locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString


class Tally:
    """`bounds` are the buckets' upper ends, ascending; a last bucket takes what is larger."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value that occurred so often."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> list[tuple[str, float]]:
        """Bucket by bucket its upper end and how many values are not larger, as the exposition has them."""
        ends = [*map(floatToGoString, self._bounds), "+Inf"]
        # list() is one step under the GIL: the buckets agree although the engine's thread counts meanwhile
        return list(zip(ends, accumulate(list(self._counts)), strict=True))

"""Axis: values onto pixels, and where the ticks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

ENOUGH = 4  # ticks
# of a decade, the coarsest that gives enough of them
STEPS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))
ROOM = 0.08  # of the length, left free on either side


class Axis(NamedTuple):
    """Values [low, high] onto pixels [begin, end]; `log`: equal ratios take equal room."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = True

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = map(self._scale, (self.low, self.high, value))
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round numbers within; on a logarithmic axis as few of each decade as do."""
        for steps in STEPS if self.log else ():
            if len(found := self._of_decades(steps)) >= ENOUGH:
                return found
        return _even(self.low, self.high)

    def _of_decades(self, steps: Sequence[float]) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found = (step * 10.0**power for power in range(first, last + 1) for step in steps)
        return [value for value in found if self.low <= value <= self.high]

    def _scale(self, value: float) -> float:
        return math.log(value) if self.log else value


def around(values: Sequence[float], begin: float, end: float, *, log: bool = False) -> Axis:
    """An axis with all values in sight and room around them."""
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** ROOM, 1.02)
        return Axis(low / room, high * room, begin, end)
    room = max((high - low) * ROOM, abs(high) * 0.01, 1e-9)
    return Axis(low - room, high + room, begin, end, log=False)


def _even(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from three to nine of them."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = min(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

"""Draft lengths: how many tokens to draft for each sequence, so that most tokens a second come out.

A draft of k tokens, each right with probability a if the one before it was, yields a + a^2 + ... + a^k tokens
beyond the one that a step gives anyway. What k more rows cost is measured as steps go by. This changes speed
only: whatever is drafted, the tokens that come out are the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

DECAY = 0.9  # of what is known of a sequence's drafts, at each further one
PRIOR = (1.6, 2.0)  # right, tried: worth trying
PROBE = 32  # steps without drafts after which one is tried
FRESH = 0.2  # weight of a new measurement
OUTLIER = 4.0  # a step that took so many times the usual says something of the system, not of its size
UNKNOWN = 0.02  # share of a step that a token is taken to cost beyond the largest step measured
FORGET = 256  # steps after which a size not seen again is forgotten


class DraftRecord:
    """How the drafts of one sequence fared so far."""

    def __init__(self) -> None:
        self.drafted = 0
        self.accepted = 0
        self.idle = 0  # steps in a row for which no draft was wanted
        self._right, self._tried = PRIOR

    @property
    def rate(self) -> float:
        """The probability that a drafted token is right if those before it are."""
        return self._right / self._tried

    def observe(self, drafted: int, accepted: int) -> None:
        """One draft: what follows its first wrong token was not tried."""
        self.drafted += drafted
        self.accepted += accepted
        if drafted:
            self._right = DECAY * self._right + accepted
            self._tried = DECAY * self._tried + min(accepted + 1, drafted)


class StepCost:
    """Seconds of a step by its number of tokens, a running mean of what was measured."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._sizes: list[int] = []  # its keys in order
        self._seen: set[int] = set()  # since sizes were last forgotten
        self._steps = 0

    def observe(self, tokens: int, seconds: float) -> None:
        if tokens in self._seconds:
            usual = self._seconds[tokens]
            self._seconds[tokens] += FRESH * (min(seconds, OUTLIER * usual) - usual)
        else:
            self._seconds[tokens] = seconds
            insort(self._sizes, tokens)
        self._seen.add(tokens)
        self._steps += 1
        if self._steps % FORGET == 0:
            self._seconds = {size: self._seconds[size] for size in self._seen}
            self._sizes = sorted(self._seen)
            self._seen.clear()

    def seconds(self, tokens: int) -> float:
        """Between two measured sizes on the line through them; before any was measured a step costs 1.

        Beyond them the guess is a cheap one, so that a size that may be the best is tried and then known.
        """
        if not self._sizes:
            return 1.0 + UNKNOWN * tokens
        at = bisect_left(self._sizes, tokens)
        if at == len(self._sizes):
            return self._seconds[self._sizes[-1]] * (1 + UNKNOWN * (tokens - self._sizes[-1]))
        above = self._sizes[at]
        if at == 0:
            return self._seconds[above] * tokens / above
        below = self._sizes[at - 1]
        share = (tokens - below) / (above - below)
        return self._seconds[below] + share * (self._seconds[above] - self._seconds[below])


def best_lengths(
    rates: Sequence[float], rooms: Sequence[int], budget: int, seconds: Callable[[int], float]
) -> list[int]:
    """Of all ways to draft for sequences with these rates the one with the most expected tokens a second.

    `rooms`: tokens that may be drafted for each, `budget` for all; `seconds(n)`: of a step with n drafted
    tokens. The j-th token drafted for a sequence adds rate^j; these fall with j, so the best n drafted tokens
    are the n largest gains, and only n must be found.
    """
    gains = [(-(rate**j), j, i) for i, rate in enumerate(rates) for j in range(1, rooms[i] + 1)]
    gains.sort()
    expected, best, most = float(len(rates)), 0, len(rates) / seconds(0)
    for n, (loss, _, _) in enumerate(gains[:budget], 1):
        expected -= loss
        if (rate := expected / seconds(n)) > most:
            best, most = n, rate
    lengths = [0] * len(rates)
    for _, _, i in gains[:best]:
        lengths[i] += 1
    return lengths


class DraftLengths:
    """The best lengths by what was measured, and now and then a single draft where none seems worth it."""

    def __init__(self, max_draft: int) -> None:
        self.max_draft = max_draft
        self.cost = StepCost()
        self._drafting = 0.0  # seconds of drafting a token

    def choose(
        self, records: Sequence[DraftRecord], rooms: Sequence[int], tokens: int, budget: int
    ) -> list[int]:
        """Drafted tokens for each sequence of a step that has `tokens` without them."""
        rooms = [min(room, self.max_draft) for room in rooms]
        rates = [record.rate for record in records]
        lengths = best_lengths(
            rates, rooms, budget, lambda n: self.cost.seconds(tokens + n) + n * self._drafting
        )
        spare = budget - sum(lengths)
        for i, record in enumerate(records):
            record.idle = 0 if lengths[i] else record.idle + 1
            if record.idle >= PROBE and rooms[i] and spare:
                record.idle, lengths[i], spare = 0, 1, spare - 1
        return lengths

    def observe(self, tokens: int, seconds: float, drafted: int, drafting: float) -> None:
        """One step of `tokens` took `seconds`, drafting the `drafted` of them `drafting`."""
        self.cost.observe(tokens, seconds)
        if drafted:
            self._drafting += FRESH * (drafting / drafted - self._drafting)

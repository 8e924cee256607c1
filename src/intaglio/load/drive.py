"""Drive: send requests at their pace and gather what was measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import monotonic

from intaglio.load.answer import Answer
from intaglio.load.ask import Ask
from intaglio.load.failure import TIMEOUT, Failure
from intaglio.load.pace import Pace
from intaglio.load.record import Record, record
from intaglio.load.server import Server

Told = Callable[["Drive"], None]


class Drive:
    """One run. `records` fills as requests end; what is cancelled leaves there what had ended."""

    def __init__(self, server: Server, timeout: float, told: Told = lambda drive: None) -> None:
        self.records: list[Record] = []
        self.running = 0
        self.unfinished = 0  # sent, and cut off by us
        self.start = monotonic()
        self._server = server
        self._timeout = timeout
        self._told = told

    async def run(self, asks: Sequence[Ask], pace: Pace, seed: str) -> None:
        """Back when the last has ended."""
        self.start = monotonic()
        if pace.open:
            await self._scheduled(asks, pace.arrivals(len(asks), seed), pace.concurrency)
        else:
            await self._users(asks, pace.concurrency or len(asks))

    async def _scheduled(self, asks: Sequence[Ask], arrivals: Sequence[float], most: int | None) -> None:
        """Open loop: each is due at its time, though those before it have not ended."""
        place = nullcontext() if most is None else asyncio.Semaphore(most)
        async with asyncio.TaskGroup() as group:
            for ask, after in zip(asks, arrivals, strict=True):
                due = self.start + after
                await asyncio.sleep(max(0.0, due - monotonic()))
                group.create_task(self._placed(ask, due, place))

    async def _placed(self, ask: Ask, due: float, place: asyncio.Semaphore | nullcontext[None]) -> None:
        async with place:
            await self._send(ask, due)

    async def _users(self, asks: Sequence[Ask], users: int) -> None:
        """Closed loop: each user's next is due when the last has ended."""
        rest = iter(asks)

        async def user() -> None:
            for ask in rest:
                await self._send(ask, monotonic())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(users, len(asks))):
                group.create_task(user())

    async def _send(self, ask: Ask, due: float) -> None:
        answer, sent, failure = Answer(), monotonic(), None
        self.running += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._server.ask(ask.body, answer)
        except Failure as error:
            failure = error
        except TimeoutError:
            failure = Failure(TIMEOUT, f"not answered whole in {self._timeout:g} s")
        except asyncio.CancelledError:
            self.unfinished += 1
            raise
        finally:
            self.running -= 1
        now = monotonic()
        self.records.append(
            record(ask, answer, start=self.start, due=due, sent=sent, now=now, failure=failure)
        )
        self._told(self)

"""Open loops keep their schedule, closed loops their number, against servers that are slow, fail or hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from statistics import median

import pytest

from intaglio.load.ask import Ask, Form
from intaglio.load.drive import Drive
from intaglio.load.pace import Pace
from intaglio.load.server import Server
from intaglio.load.target import target
from tests.load.fake import END, HEAD, Answering, Asked, Fake, event, piece, plain, streaming, usage

FORM = Form("m", False, False, {})
WORD = HEAD + event(piece("a", "stop")) + event("[DONE]") + END


def asks(count: int, tokens: int = 3) -> list[Ask]:
    return [Ask(i, "all", FORM.body(f"prompt {i}", tokens), None, tokens) for i in range(count)]


def drive(fake: Fake, count: int, pace: Pace, timeout: float = 20.0, tokens: int = 3) -> Drive:
    async def run() -> Drive:
        with closing(Server(target(fake.url, "/v1/completions"), {})) as server:
            one = Drive(server, timeout)
            await one.run(asks(count, tokens), pace, "1")
        return one

    return asyncio.run(run())


def one_at_a_time(seconds: float) -> Answering:
    """A server with one place: each request waits for those before it."""
    lock = asyncio.Lock()

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        async with lock:
            await asyncio.sleep(seconds)
        yield WORD

    return answer


def together(count: int) -> Answering:
    """A server that answers nobody before so many have come."""
    barrier = asyncio.Barrier(count)

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        await barrier.wait()
        yield WORD

    return answer


def test_known_delays_come_out() -> None:
    with Fake(streaming(first=0.2, gap=0.03)) as fake:
        records = drive(fake, 4, Pace(concurrency=1), tokens=20).records
    first = [one.ttft_ms or 0.0 for one in records]
    gaps = [gap for one in records for gap in one.itl_ms]
    assert (len(first), len(gaps)) == (4, 4 * 19)
    assert 200 <= min(first) < 230
    assert 30 <= median(gaps) < 45
    assert 30 <= min(one.tpot_ms or 0.0 for one in records) < 45
    for one in records:
        assert one.e2e_ms == pytest.approx((one.ttft_ms or 0.0) + 19 * (one.tpot_ms or 0.0))
        assert (one.output_tokens, one.prompt_tokens, one.counted) == (20, 3, True)


def test_an_open_loop_keeps_its_schedule_before_a_server_that_answers_nobody() -> None:
    count, pace = 15, Pace(rate=60.0)
    with Fake(together(count)) as fake:
        records = sorted(drive(fake, count, pace).records, key=lambda one: one.index)
    due = pace.arrivals(count, "1")
    assert [one.due_s for one in records] == pytest.approx(due)
    assert [one.error for one in records] == [None] * count  # in a closed loop all would have hung
    assert all(one.sent_s >= one.due_s for one in records)
    # the answers came when the last had been sent, and each was waited for from when it was due
    assert all(one.e2e_ms >= 1e3 * (due[-1] - one.due_s) for one in records)


def test_waiting_for_a_place_counts() -> None:
    """Coordinated omission: what is sent late because the server is slow has been waited for already."""
    seconds, count = 0.05, 10
    with Fake(one_at_a_time(seconds)) as fake:
        scheduled = drive(fake, count, Pace(rate=200.0, concurrency=1)).records
        closed = drive(fake, count, Pace(concurrency=1)).records
    for before, one in enumerate(scheduled):
        assert one.e2e_ms / 1e3 >= (before + 1) * seconds - (one.due_s - scheduled[0].due_s)
        assert one.e2e_ms / 1e3 >= one.sent_s - one.due_s + seconds
    assert median(one.e2e_ms for one in scheduled) > 2 * median(one.e2e_ms for one in closed)
    assert max(one.sent_s - one.due_s for one in closed) < seconds


def test_a_closed_loop_has_so_many_users() -> None:
    under_way, most = 0, 0

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        async for data in users(asked):
            under_way -= 1
            yield data

    users = together(4)
    with Fake(answer) as fake:
        records = drive(fake, 20, Pace(concurrency=4)).records
        assert (len(records), most) == (20, 4)
    assert sorted(one.index for one in records) == list(range(20))


def test_without_a_limit_all_come_at_once() -> None:
    with Fake(together(20)) as fake:
        assert all(one.error is None for one in drive(fake, 20, Pace()).records)


def test_failures_are_counted_and_never_sent_again() -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        if asked.number % 4 == 1:
            yield plain(429, {"error": {"message": "queue is full"}})
        elif asked.number % 4 == 2:
            yield HEAD + event(piece("a"))  # and no more
        elif asked.number % 4 == 3:
            yield HEAD + event("{") + END
        else:
            yield HEAD + event(piece("a", "stop")) + event(usage(1, 1)) + event("[DONE]") + END

    with Fake(answer) as fake:
        records = drive(fake, 12, Pace(concurrency=1)).records
    assert len(fake.measured) == 12
    kinds = [one.error for one in sorted(records, key=lambda one: one.index)]
    assert kinds == [None, "HTTP 429", "disconnected", "bad JSON"] * 3
    assert {one.status for one in records} == {200, 429}


def test_a_server_that_hangs_times_out_and_is_let_go() -> None:
    gone = threading.Event()

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        try:
            yield HEAD + event(piece("a"))
            while True:
                await asyncio.sleep(0.01)
                yield event(piece("."))
        finally:
            gone.set()

    with Fake(answer) as fake:
        (one,) = drive(fake, 1, Pace(), timeout=1.0).records
        assert (one.error, one.detail) == ("timeout", "not answered whole in 1 s")
        assert one.e2e_ms >= 1000
        assert one.ttft_ms is not None
        assert gone.wait(5.0)


def test_cancelled_it_keeps_what_had_ended() -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        yield HEAD + event(piece("a", "stop"))
        if asked.number >= 3:
            await asyncio.sleep(60)
        yield event("[DONE]") + END

    tasks: list[asyncio.Task[None]] = []

    def stop(drive: Drive) -> None:
        if len(drive.records) == 3:
            tasks[0].cancel()

    async def run(fake: Fake) -> Drive:
        with closing(Server(target(fake.url, "/v1/completions"), {})) as server:
            one = Drive(server, 30.0, stop)
            tasks.append(asyncio.create_task(one.run(asks(10), Pace(concurrency=2), "1")))
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
        return one

    with Fake(answer) as fake:
        one = asyncio.run(run(fake))
    assert (len(one.records), one.unfinished, one.running) == (
        3,
        2,
        0,
    )  # the user whose answer ended had sent the next

"""Open loops keep their schedule, closed loops their number, against servers that are slow, fail or hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import pairwise
from statistics import median

import pytest

from intaglio.load.ask import Ask, Form
from intaglio.load.drive import Drive
from intaglio.load.pace import Pace
from intaglio.load.record import Record
from intaglio.load.server import Server
from intaglio.load.target import target
from tests.load.fake import END, HEAD, Answering, Asked, Fake, event, piece, plain, streaming, usage

FORM = Form("m", False, False, {})
SLACK = 0.25  # seconds a busy machine may take for what takes none


def asks(count: int, tokens: int = 3) -> list[Ask]:
    return [Ask(i, "all", FORM.body(f"prompt {i}", tokens), None, tokens) for i in range(count)]


def drive(fake: Fake, count: int, pace: Pace, timeout: float = 30.0) -> Drive:
    async def run() -> Drive:
        with closing(Server(target(fake.url, "/v1/completions"), {})) as server:
            one = Drive(server, timeout)
            await one.run(asks(count), pace, "1")
        return one

    return asyncio.run(run())


def one_at_a_time(seconds: float) -> Answering:
    """A server with one place: each request waits for those before it."""
    lock = asyncio.Lock()

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        async with lock:
            await asyncio.sleep(seconds)
        yield HEAD + event(piece("a", "stop")) + event("[DONE]") + END

    return answer


def test_known_delays_come_out() -> None:
    with Fake(streaming(first=0.2, gap=0.05)) as fake:
        (one,) = drive(fake, 1, Pace()).records
    written = fake.measured[0].written
    assert one.ttft_ms is not None
    assert one.tpot_ms is not None
    assert 200 <= one.ttft_ms < 1e3 * (0.2 + SLACK)
    assert all(gap >= 30 for gap in one.itl_ms)
    # beside what the server itself saw: the first is the head, the last the end
    for ours, theirs in zip(one.itl_ms, pairwise(written[1:-1]), strict=True):
        assert ours == pytest.approx(1e3 * (theirs[1] - theirs[0]), abs=1e3 * SLACK)
    assert one.e2e_ms == pytest.approx(one.ttft_ms + 2 * one.tpot_ms)
    assert (one.output_tokens, one.prompt_tokens, one.counted) == (3, 3, True)


def test_an_open_loop_keeps_its_schedule_before_a_slow_server() -> None:
    seconds, count = 0.1, 15
    pace = Pace(rate=60.0)
    with Fake(one_at_a_time(seconds)) as fake:
        records = sorted(drive(fake, count, pace).records, key=lambda one: one.index)
    due = pace.arrivals(count, "1")
    assert [one.due_s for one in records] == pytest.approx(due)
    assert all(0 <= one.sent_s - one.due_s < SLACK for one in records)
    # each waits for all before it: nothing of that is left out
    for before, one in enumerate(records):
        assert one.ttft_ms is not None
        assert one.ttft_ms / 1e3 >= (before + 1) * seconds - (one.due_s - due[0]) - 0.01
    closed = [one.ttft_ms or 0.0 for one in _slow(seconds, 5, Pace(concurrency=1))]
    assert median(one.ttft_ms or 0.0 for one in records) > 2 * median(closed)


def _slow(seconds: float, count: int, pace: Pace) -> list[Record]:
    with Fake(one_at_a_time(seconds)) as fake:
        return drive(fake, count, pace).records


def test_waiting_for_a_place_counts() -> None:
    records = sorted(_slow(0.1, 10, Pace(rate=100.0, concurrency=1)), key=lambda one: one.index)
    last = records[-1]
    assert last.sent_s - last.due_s > 0.5
    assert last.e2e_ms > 1e3 * (last.sent_s - last.due_s) + 90


def test_a_closed_loop_has_so_many_users() -> None:
    under_way, most = 0, 0

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        yield HEAD + event(piece("a", "stop")) + event("[DONE]") + END

    with Fake(answer) as fake:
        records = drive(fake, 20, Pace(concurrency=4)).records
        assert (len(records), most) == (20, 4)
        most = 0
        drive(fake, 20, Pace())
        assert most > 10  # all at once
    assert sorted(one.index for one in records) == list(range(20))
    assert max(one.sent_s - one.due_s for one in records) < SLACK


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
        (one,) = drive(fake, 1, Pace(), timeout=0.3).records
        assert (one.error, one.detail) == ("timeout", "not answered whole in 0.3 s")
        assert one.e2e_ms >= 300
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

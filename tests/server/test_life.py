"""Clients that leave, queues that are full, steps that fail, and a server that is told to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from intaglio.engine.llm import LLM
from intaglio.server.settings import Settings
from tests.server.serving import SEQUENCES, Running, serving
from tests.server.test_guard import raw, refused

LONGER: dict[str, Any] = {"model": "tiny", "prompt": "a", "max_tokens": 1000, "n": 8, "ignore_eos": True}
LONG: dict[str, Any] = {"model": "tiny", "prompt": "abcdefgh" * 8, "max_tokens": 400, "ignore_eos": True}


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for it; fail when it does not come."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.01)


def idle(running: Running) -> bool:
    """No request, no page in use, no connection but keep-alive ones."""
    llm = running.llms["tiny"]
    return not llm.scheduler.busy and llm.executor.pool.available == llm.executor.pool.count


def streaming(running: Running, ask: dict[str, Any]) -> Any:
    return httpx.stream("POST", f"{running.url}/v1/completions", json={**ask, "stream": True}, timeout=60)


def test_a_client_that_leaves_frees_its_pages(running: Running) -> None:
    with streaming(running, LONG) as answer:
        next(answer.iter_lines())
        assert running.llms["tiny"].scheduler.busy
    eventually(lambda: idle(running))


def test_a_client_that_leaves_before_the_first_byte(running: Running) -> None:
    with raw(running) as sock:
        sock.sendall(written(LONG))
        eventually(lambda: running.llms["tiny"].scheduler.busy)
    eventually(lambda: idle(running))


CLIENT = """
import json, sys, httpx
with httpx.stream("POST", sys.argv[1], json=json.loads(sys.argv[2]), timeout=60) as answer:
    for line in answer.iter_lines():
        print(line, flush=True)
"""


def test_a_client_that_is_killed_frees_its_pages(running: Running) -> None:
    ask = json.dumps({**LONGER, "stream": True})
    command = [sys.executable, "-c", CLIENT, f"{running.url}/v1/completions", ask]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline().startswith("data: ")
        assert running.llms["tiny"].scheduler.busy
        client.kill()
    assert client.returncode == -signal.SIGKILL
    eventually(lambda: idle(running))


def written(ask: dict[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(ask).encode()
    head = ["POST /v1/completions HTTP/1.1", "host: localhost", "content-type: application/json"]
    return "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body


def abrupt(running: Running, count: int) -> None:
    """So many clients, each of which breaks off somewhere in its request or answer."""
    whole = written({**LONG, "stream": True})
    for index in range(count):
        with raw(running) as sock:
            cut = len(whole) if index % 2 else index * 37 % len(whole)
            sock.sendall(whole[:cut])
            if index % 4 == 1:
                sock.recv(100)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def disconnects(running: Running, count: int) -> None:
    abrupt(running, 50)  # whatever is allocated once
    eventually(lambda: idle(running))
    files = open_files()
    abrupt(running, count)
    eventually(lambda: idle(running), 30)
    eventually(lambda: open_files() <= files + 2, 30)
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_abrupt_disconnects_leave_nothing_behind(running: Running) -> None:
    disconnects(running, 300)


@pytest.mark.claims
def test_ten_thousand_abrupt_disconnects(running: Running) -> None:
    disconnects(running, 10_000)


def test_a_full_queue_turns_away(tiny: Path) -> None:
    with serving(tiny, Settings(port=0, max_waiting=2)) as running, ThreadPoolExecutor(32) as pool:
        asks = [pool.submit(post, running, LONG) for _ in range(SEQUENCES + 6)]
        answers = [ask.result() for ask in asks]
        turned_away = [answer for answer in answers if answer.status_code == 429]
        assert turned_away
        assert len(answers) - len(turned_away) >= SEQUENCES + 2
        assert refused(turned_away[0], 429)["code"] == "queue_full"
        assert int(turned_away[0].headers["retry-after"]) >= 1
        eventually(lambda: idle(running))


def post(running: Running, ask: dict[str, Any], path: str = "completions") -> httpx.Response:
    return httpx.post(f"{running.url}/v1/{path}", json=ask, timeout=120)


def test_full_kv_memory_slows_down_but_loses_nothing(tiny: Path) -> None:
    """Twelve pages for eight requests that grow to eight pages each: some are preempted, all are answered."""
    ask = {**LONG, "temperature": 0, "max_tokens": 300}
    with serving(tiny) as roomy, serving(tiny, pages=12) as tight, ThreadPoolExecutor(8) as pool:
        alone = post(roomy, ask).json()["choices"][0]["text"]
        answers = list(pool.map(lambda _: post(tight, ask), range(8)))
        assert {answer.json()["choices"][0]["text"] for answer in answers} == {alone}
        assert tight.llms["tiny"].scheduler.preemptions > 0
        eventually(lambda: idle(tight))


def test_a_request_larger_than_all_kv_memory_is_refused(tiny: Path) -> None:
    with serving(tiny, pages=2) as running:
        refused(post(running, {**LONG, "max_tokens": 300}), 400)


def test_a_deadline_ends_a_request(running: Running) -> None:
    error = refused(post(running, {**LONG, "timeout": 0.01}), 504)
    assert error["code"] == "deadline_exceeded"
    eventually(lambda: idle(running))


def test_a_step_that_fails_takes_only_its_requests_with_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny) as running:
        llm = running.llms["tiny"]
        good = llm.executor.step

        def broken(batch: Any) -> Any:
            raise RuntimeError("/secret/path went wrong")

        monkeypatch.setattr(llm.executor, "step", broken)
        error = refused(post(running, LONG), 500)
        assert "secret" not in str(error)
        monkeypatch.setattr(llm.executor, "step", good)
        assert post(running, {**LONG, "max_tokens": 4}).status_code == 200
        assert httpx.get(f"{running.url}/health").status_code == 200
        eventually(lambda: idle(running))


def test_an_engine_that_keeps_failing_says_so(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny) as running:

        def broken(batch: Any) -> Any:
            raise RuntimeError("no")

        monkeypatch.setattr(running.llms["tiny"].executor, "step", broken)
        for _ in range(3):
            post(running, LONG)
        refused(httpx.get(f"{running.url}/health"), 503)


@pytest.fixture
def process(tiny: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`intaglio serve` as a user starts it."""
    command = [sys.executable, "-m", "intaglio", "serve", str(tiny), "--port", "0", "--drain-seconds", "20"]
    command += ["--served-model-name", "tiny", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        line = next(line for line in started.stderr if line.startswith("serving "))
        reading = threading.Thread(target=lambda: started.stderr and started.stderr.read(), daemon=True)
        reading.start()
        yield started, line.split(" at ")[1].strip()
        started.kill()


def test_sigterm_lets_requests_finish_and_turns_new_ones_away(
    process: tuple[subprocess.Popen[str], str],
) -> None:
    server, url = process
    ask = {**LONGER, "stream": True}
    with (
        httpx.Client() as kept,
        httpx.stream("POST", f"{url}/v1/completions", json=ask, timeout=60) as answer,
    ):
        kept.get(f"{url}/health")
        lines = answer.iter_lines()
        next(lines)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        refused(kept.post(f"{url}/v1/completions", json=LONG), 503)
        refused(kept.get(f"{url}/health"), 503)
        *_, last = (line for line in lines if line)
        assert last == "data: [DONE]"
    assert server.wait(20) == 0


def test_a_second_signal_ends_at_once(process: tuple[subprocess.Popen[str], str]) -> None:
    server, url = process
    with httpx.stream("POST", f"{url}/v1/completions", json={**LONGER, "stream": True}, timeout=60) as answer:
        next(answer.iter_lines())
        server.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def test_a_long_prompt_does_not_stall_the_tokens_of_others(running: Running) -> None:
    """While prompts of 480 tokens come in, a stream's tokens keep coming, a step of 64 tokens apart."""
    llm: LLM = running.llms["tiny"]
    before = llm.loop.steps
    ask = {**LONG, "max_tokens": 200, "logprobs": 0}
    with streaming(running, ask) as answer, ThreadPoolExecutor(4) as pool:
        events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))
        counts = (len(one["choices"][0]["logprobs"]["tokens"]) for one in events)  # pieces may be joined
        first = next(counts)
        asks = [pool.submit(post, running, {**LONG, "prompt": "x" * 480, "max_tokens": 1}) for _ in range(4)]
        tokens = first + sum(counts)
        assert all(ask.result().status_code == 200 for ask in asks)
    assert tokens == 200
    assert llm.loop.steps - before < 200 + 4 * 480 / 64 + 60  # every step brought the stream a token

"""Two replicas on this machine: prompts that begin alike meet, and one is killed under load."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed", exc_type=ImportError)

import ray
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from intaglio.serve_ray import Arguments, build
from intaglio.serve_ray.relay import ROLE
from tests import tiny_llm

pytestmark = pytest.mark.timeout(300)
REPLICA = "SERVE_REPLICA::default#Replica#"  # how Ray names their actors
KEY = {"authorization": "Bearer secret"}
TOKENS = 1500  # enough for a request to be under way for a while
names = itertools.count()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two replicas, for all tests here."""
    model = tiny_llm.write_model(tmp_path_factory.mktemp("served"), max_position_embeddings=4096)
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("INTAGLIO_API_KEY", "secret")
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            arguments = Arguments(
                model=str(model), served_model_name="tiny", threads=1, min_replicas=2, max_replicas=2
            )
            serve.run(build(arguments), route_prefix="/llm")
            yield f"http://127.0.0.1:{port}/llm"
        finally:
            serve.shutdown()
            ray.shutdown()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers=KEY, timeout=60) as client:
        yield client


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.1)


def metric(client: httpx.Client, name: str) -> dict[str, float]:
    """Its value by replica, all other labels summed."""
    values: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == f"intaglio:{name}":
                values[sample.labels["replica"]] += sample.value
    return dict(values)


def ask(beginning: str, **more: Any) -> dict[str, Any]:
    """For a completion whose prompt begins so and is like no other."""
    prompt = f"{beginning:-<300} {next(names)}"
    return {"model": "tiny", "prompt": prompt, "max_tokens": 4, "ignore_eos": True, **more}


def replica_of(client: httpx.Client, request: dict[str, Any]) -> str:
    """Which one answers it."""
    before = metric(client, "prompt_tokens_total")
    assert client.post("/v1/completions", json=request).status_code == 200
    after = metric(client, "prompt_tokens_total")
    (name,) = [name for name in after if after[name] > before.get(name, 0)]
    return name


def test_it_looks_like_one_server(client: httpx.Client) -> None:
    assert client.get("/health", headers={"authorization": ""}).status_code == 200
    assert client.get("/v1/models", headers={"authorization": ""}).status_code == 401
    (card,) = client.get("/v1/models").json()["data"]
    assert card["id"] == "tiny"
    answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": 3}]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    told = client.get("/v1/models", headers={"x-request-id": "mine"})
    assert told.headers.get_list("x-request-id") == ["mine"]


def test_a_stream_says_what_the_whole_answer_says(client: httpx.Client) -> None:
    said = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 24, "seed": 3}
    whole = client.post("/v1/chat/completions", json=said).json()["choices"][0]["message"]["content"]
    with client.stream("POST", "/v1/chat/completions", json={**said, "stream": True}) as answer:
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events.pop() == "[DONE]"
    assert ROLE.decode() in events[0]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == whole


def test_prompts_that_begin_alike_meet_and_others_spread(client: httpx.Client) -> None:
    homes = set()
    for index in range(16):
        beginning = f"Beginning {index}"
        homes.add(replica_of(client, ask(beginning)))
        again = client.post("/v1/completions", json=ask(beginning)).json()
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= 256
    assert homes == metric(client, "num_requests_running").keys()
    assert len(homes) == 2


def test_a_client_that_leaves_frees_its_pages(client: httpx.Client) -> None:
    def busy() -> bool:
        return any(metric(client, "num_requests_running").values())

    with client.stream(
        "POST", "/v1/completions", json=ask("Left", n=8, max_tokens=3000, stream=True)
    ) as answer:
        lines = answer.iter_lines()  # that it is let go of closes the stream
        next(lines)
        assert busy()
    eventually(lambda: not busy(), 10)
    assert not any(metric(client, "kv_cache_usage_perc").values())
    finished = client.get("/metrics").text
    assert 'finished_reason="abort"' in finished


class Outcome(NamedTuple):
    """What one request came to. `sent`: when, monotonic seconds."""

    sent: float
    streamed: bool
    status: int
    tokens: int
    error: str | None


def one(client: httpx.Client, beginning: str, streamed: bool) -> Outcome:
    sent = time.monotonic()
    request = ask(beginning, max_tokens=TOKENS, stream=streamed, stream_options={"include_usage": True})
    answer = client.post("/v1/completions", json=request)
    if not streamed:
        tokens = answer.json().get("usage", {}).get("completion_tokens", 0)
        return Outcome(sent, False, answer.status_code, tokens, None)
    *events, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert done == "[DONE]"
    last = json.loads(events[-1])
    error = last["error"]["code"] if "error" in last else None
    return Outcome(
        sent, True, answer.status_code, (last.get("usage") or {}).get("completion_tokens", 0), error
    )


def test_a_replica_is_killed_under_load(client: httpx.Client, url: str) -> None:
    victim = replica_of(client, ask("Doomed"))
    outcomes: list[Outcome] = []
    over = threading.Event()

    def load(beginning: str, streamed: bool) -> None:
        with httpx.Client(base_url=url, headers=KEY, timeout=60) as asking:
            while not over.is_set():
                outcomes.append(one(asking, beginning, streamed))

    kinds = [
        (beginning, streamed) for beginning in ("Doomed", "Doomed", "Else") for streamed in (True, False)
    ]
    with ThreadPoolExecutor(len(kinds)) as pool:
        loads = [pool.submit(load, *kind) for kind in kinds]
        eventually(lambda: metric(client, "num_requests_running")[victim] >= 3)
        killed = time.monotonic()
        kill(victim)
        eventually(lambda: sum(outcome.sent > killed for outcome in outcomes) >= 2 * len(kinds))
        over.set()
        assert not any(one_load.exception() for one_load in loads)
    lost = [outcome for outcome in outcomes if outcome.error]
    assert 1 <= len(lost) <= sum(streamed for _, streamed in kinds)
    assert all(one.streamed and one.sent < killed and one.error == "replica_lost" for one in lost)
    assert {outcome.status for outcome in outcomes} == {200}
    assert {outcome.tokens for outcome in outcomes if not outcome.error} == {TOKENS}
    eventually(lambda: len(metric(client, "num_requests_running")) == 2)
    assert victim not in metric(client, "num_requests_running")
    assert len({replica_of(client, ask(f"Again {index}")) for index in range(16)}) == 2


def kill(replica: str) -> None:
    """Its process, as the kernel would when memory is short."""
    actor = ray.get_actor(REPLICA + replica, namespace="serve")
    process = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)

"""Does use of all kinds leave anything behind in the server: memory, pages, file handles, requests?

    python bench/soak.py MODEL [--minutes 60] [--users 8] [--pause 0] [--memory-mb 16] [--json]

Starts `intaglio serve MODEL` and asks it for so long what users ask, well and badly: chats, streams that are
read or left, long prompts, common beginnings, several choices, schemas, embeddings, deadlines, bodies cut
off in the middle, nonsense. What the server says of itself (/metrics) after a fifth of the time, when caches
and buffers have been filled, is compared with the end. Exits with 1 if a request failed that should not have,
if anything is still running or holds a page, if files stay open, or if memory grew by more than
`--memory-mb`. The server has little memory for keys and values, all of which is soon resident.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

WORDS = "the sea a river under light stone of and bread was found near old quiet water seven".split()  # noqa: SIM905
WARM = 0.2  # share of the time after which memory should stand still
BUSY = ("intaglio:num_requests_running", "intaglio:num_requests_waiting", "intaglio:kv_cache_usage_perc")
MEMORY, FILES = "process_resident_memory_bytes", "process_open_fds"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TIMEOUT = 600.0
KV = "8MB"


@dataclass
class Soak:
    """One server under use until `until`."""

    client: httpx.AsyncClient
    host: str
    port: int
    until: float
    pause: float  # seconds at most between two things a user asks
    random: random.Random
    asked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    async def user(self) -> None:
        """Asks one thing after another."""
        kinds = list(KINDS)
        while time.monotonic() < self.until:
            kind = self.random.choice(kinds)
            try:
                fault = await KINDS[kind](self)
            except httpx.HTTPError as error:
                fault = f"{type(error).__name__}: {error}"
            self.asked[kind] += 1
            if fault:
                self.wrong[f"{kind}: {fault}"] += 1
            await asyncio.sleep(self.random.random() * self.pause)

    def text(self, count: int) -> str:
        return " ".join(self.random.choice(WORDS) for _ in range(count))

    def length(self) -> int:
        return self.random.randrange(1, 48)

    async def post(self, path: str, ask: object, *good: int) -> str | None:
        answer = await self.client.post(path, json=ask)
        return None if answer.status_code in good else f"status {answer.status_code}: {answer.text[:120]}"

    async def stream(self, ask: dict[str, Any], lines: int | None) -> str | None:
        """Reads a stream to its end, or leaves after so many lines."""
        last = ""
        async with self.client.stream("POST", "/v1/completions", json={**ask, "stream": True}) as answer:
            if answer.status_code == 429:
                return None
            async for line in answer.aiter_lines():
                last = line or last
                lines = None if lines is None else lines - 1
                if lines == 0:
                    return None
        return None if answer.status_code == 200 and last == "data: [DONE]" else f"ended with {last[:120]}"

    async def metrics(self) -> dict[str, float]:
        """What the server says of itself."""
        text = (await self.client.get("/metrics")).text
        families = text_string_to_metric_families(text)
        return {sample.name: sample.value for family in families for sample in family.samples}

    async def at_rest(self) -> dict[str, float]:
        """The same when nothing runs any more, or after a minute."""
        for _ in range(120):
            found = await self.metrics()
            if not any(found[name] for name in BUSY):
                break
            await asyncio.sleep(0.5)
        await asyncio.sleep(1)  # connections that are being closed
        return await self.metrics()


async def chat(s: Soak) -> str | None:
    ask = {"messages": [{"role": "user", "content": s.text(8)}], "max_tokens": s.length()}
    return await s.post("/v1/chat/completions", ask, 200, 400, 429)  # 400: a model without a template


async def complete(s: Soak) -> str | None:
    ask = {"prompt": s.text(s.length()), "max_tokens": s.length(), "n": s.random.choice((1, 1, 3))}
    return await s.post("/v1/completions", {**ask, "logprobs": s.random.choice((None, 3))}, 200, 429)


async def read(s: Soak) -> str | None:
    return await s.stream({"prompt": s.text(16), "max_tokens": s.length(), "ignore_eos": True}, None)


async def leave(s: Soak) -> str | None:
    ask = {"prompt": s.text(16), "max_tokens": 200, "ignore_eos": True}
    return await s.stream(ask, s.random.randrange(1, 9))


async def long(s: Soak) -> str | None:
    return await s.post("/v1/completions", {"prompt": s.text(160), "max_tokens": 8}, 200, 400, 429)


async def alike(s: Soak) -> str | None:
    begin = f"{s.random.randrange(4)} {' '.join(WORDS)} " * 2
    return await s.post("/v1/completions", {"prompt": begin + s.text(4), "max_tokens": 8}, 200, 429)


async def schema(s: Soak) -> str | None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    return await s.post(
        "/v1/completions", {"prompt": "{", "max_tokens": 24, "response_format": form}, 200, 429
    )


async def embed(s: Soak) -> str | None:
    return await s.post("/v1/embeddings", {"input": [s.text(8), s.text(20)]}, 200, 429)


async def tokenize(s: Soak) -> str | None:
    return await s.post("/tokenize", {"prompt": s.text(30)}, 200)


async def late(s: Soak) -> str | None:
    ask = {"prompt": s.text(8), "max_tokens": 200, "ignore_eos": True, "timeout": 0.02}
    return await s.post("/v1/completions", ask, 200, 429, 504)


async def nonsense(s: Soak) -> str | None:
    asks = ({"prompt": 1.5}, {"prompt": "a", "n": -1}, {"prompt": "a", "stop": [""] * 99}, [], {"prompt": []})
    return await s.post("/v1/completions", s.random.choice(asks), 400)


async def broken_off(s: Soak) -> str | None:
    """A connection that ends in the middle of a request."""
    body = json.dumps({"prompt": s.text(40), "max_tokens": 64}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {s.host}\r\nContent-Type: application/json\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    _, writer = await asyncio.open_connection(s.host, s.port)
    writer.write(whole[: s.random.randrange(len(whole) + 1)])
    await writer.drain()
    writer.transport.abort()
    return None


KINDS: dict[str, Callable[[Soak], Awaitable[str | None]]] = {
    one.__name__: one
    for one in (chat, complete, read, leave, long, alike, schema, embed, tokenize, late, nonsense, broken_off)
}


@contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
    """Its address, once it answers."""
    command = [sys.executable, "-m", "intaglio", "serve", options.model, "--port", "0"]
    command += ["--max-num-seqs", "8", "--kv-cache-memory", KV, "--log-level", "error"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = next((line for line in process.stderr if line.startswith("serving ")), None)
            if line is None:
                sys.exit(f"the server of {options.model} did not start")
            yield line.split(" at ")[1].split()[0]
        finally:
            process.terminate()
            process.stderr.read()  # what it says when it ends


async def soak(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """What was asked, and what is left of it."""
    address, seconds = httpx.URL(url), 60 * options.minutes
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=options.users)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits) as client:
        used = Soak(client, address.host, address.port or 80, 0, options.pause, random.Random(options.seed))
        for share in (WARM, 1 - WARM):
            used.until = time.monotonic() + share * seconds
            await asyncio.gather(*(used.user() for _ in range(options.users)))
            after = await used.at_rest()
            print(_state(used, after), file=sys.stderr)
            if share == WARM:
                before = after
    return {
        "asked": dict(used.asked),
        "wrong": dict(used.wrong),
        "busy": {name: after[name] for name in BUSY if after[name]},
        "files": after[FILES] - before[FILES],
        "memory_mb": (after[MEMORY] - before[MEMORY]) / 1e6,
    }


def _state(used: Soak, now: dict[str, float]) -> str:
    memory = now[MEMORY] / 1e6
    return f"{used.asked.total():,} requests: {memory:.1f} MB resident, {now[FILES]:.0f} files open"


def faults(found: dict[str, Any], most_mb: float, users: int) -> Iterator[str]:
    """What is not as it should be, a sentence each."""
    for what, count in found["wrong"].items():
        yield f"{count} times {what}"
    for name, value in found["busy"].items():
        yield f"{name} is {value:g} though nobody asks any more"
    if found["files"] > users:  # connections kept alive
        yield f"{found['files']:.0f} more files are open than before"
    if found["memory_mb"] > most_mb:
        yield f"memory grew by {found['memory_mb']:.1f} MB; {most_mb:g} are allowed"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds at most between two requests of a user"
    )
    parser.add_argument("--memory-mb", type=float, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with server(options) as url:
        found = asyncio.run(soak(url, options))
    wrong = list(faults(found, options.memory_mb, options.users))
    if options.json:
        print(json.dumps({**found, "faults": wrong}, indent=1))
    else:
        print("\n".join(wrong) or f"nothing is left: memory {found['memory_mb']:+.1f} MB, nothing runs")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()

"""What measuring costs: the processor time `intaglio bench-serve` takes for every chunk it reads.

    python bench/load_cost.py [STREAMS ...]

A server in another process sends a chunk to every stream a hundred times a second; the same answers are read
by the load tool's own connections, by httpx, and by sockets that only count, which is what asyncio takes
itself. On two cores the server has what the client leaves of them. Prints one table.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from time import monotonic, process_time

import httpx

from intaglio.load.answer import Answer
from intaglio.load.server import Server
from intaglio.load.target import target

CHUNKS, GAP = 300, 0.01  # of one answer; seconds between them
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = {
    "id": "cmpl-0123456789abcdef0123456789abcdef", "object": "text_completion", "created": 1790000000,
    "model": "smollm2-135m",
    "choices": [{"index": 0, "text": " word", "logprobs": None, "finish_reason": None}],
}  # fmt: skip


def coded(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


WORD = coded(b"data: " + json.dumps(CHUNK).encode() + b"\n\n")
END = coded(b"data: [DONE]\n\n") + b"0\r\n\r\n"


async def serve() -> None:
    """Says its port, then answers every request alike; one clock for all, as an engine's steps are."""
    left: dict[asyncio.StreamWriter, int] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        left[writer] = CHUNKS

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    due = monotonic()
    while True:
        due += GAP
        await asyncio.sleep(max(0.0, due - monotonic()))
        for writer in list(left):
            writer.write(WORD)
            left[writer] -= 1
            if not left[writer]:
                writer.write(END)
                del left[writer]


async def ours(url: str, streams: int) -> None:
    with closing(Server(target(url, "/v1/completions"), {})) as server:
        answers = [Answer() for _ in range(streams)]
        await asyncio.gather(*(server.ask(b"", answer) for answer in answers))
    assert all(len(answer.times) == CHUNKS for answer in answers)


async def by_httpx(url: str, streams: int) -> None:
    """Its cheapest way to read: pieces as they come."""
    limits = httpx.Limits(max_connections=None)

    async def one(client: httpx.AsyncClient) -> None:
        answer = Answer()
        answer.begin(200, [(b"content-type", b"text/event-stream")])
        async with client.stream("POST", url + "/v1/completions") as response:
            async for data in response.aiter_raw():
                answer.take(data, monotonic())
        assert len(answer.times) == CHUNKS

    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:
        await asyncio.gather(*(one(client) for _ in range(streams)))


class Counting(asyncio.Protocol):
    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"POST / HTTP/1.1\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        if data.endswith(END):
            self.ended.set_result(None)


async def by_nobody(url: str, streams: int) -> None:
    async def one() -> None:
        port = int(url.rpartition(":")[2])
        transport, counting = await asyncio.get_running_loop().create_connection(Counting, "127.0.0.1", port)
        await counting.ended
        transport.close()

    await asyncio.gather(*(one() for _ in range(streams)))


READERS: dict[str, Callable[[str, int], Awaitable[None]]] = {
    "asyncio alone": by_nobody,
    "intaglio": ours,
    "httpx": by_httpx,
}


def microseconds(read: Callable[[str, int], Awaitable[None]], url: str, streams: int) -> float:
    """Processor time of this process for a chunk."""

    async def measured() -> float:
        before = process_time()
        await read(url, streams)
        return process_time() - before

    return asyncio.run(measured()) / (streams * CHUNKS) * 1e6


def main(sizes: list[int]) -> None:
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        print(f"{'us of CPU a chunk':20}" + "".join(f"{size:>6} streams" for size in sizes))
        for name, read in READERS.items():
            print(
                f"{name:20}" + "".join(f"{microseconds(read, url, size):>14.1f}" for size in sizes),
                flush=True,
            )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main([int(size) for size in sys.argv[1:]] or [1, 32, 64])

"""A server that answers as it is told to, byte for byte and delay for delay, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any

HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: fake\r\n"
    b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


@dataclass
class Asked:
    """A request as it came; `written`: when each piece of its answer was written."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    came: float
    written: list[float] = field(default_factory=list)


# yields the bytes of an answer; ends early to close the connection
Answering = Callable[[Asked], AsyncIterator[bytes]]


def part(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    """One event of a stream, in a chunk of its own."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return part(f"data: {text}\n\n".encode())


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    """A chunk of /v1/completions."""
    return {"id": "cmpl-1", "choices": [{"index": 0, "text": text, "finish_reason": finish}], "usage": None}


def usage(prompt: int, output: int, **details: int) -> dict[str, Any]:
    """The last chunk."""
    counted: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output}
    if details:
        counted["prompt_tokens_details"] = details
    return {"id": "cmpl-1", "choices": [], "usage": counted}


def plain(status: int, value: Any) -> bytes:
    """A whole answer that is no stream."""
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 %d X\r\nserver: fake\r\ncontent-type: application/json\r\n" % status
    return head + b"content-length: %d\r\n\r\n%s" % (len(body), body)


def streaming(first: float = 0.0, gap: float = 0.0, tokens: int | None = None, **details: int) -> Answering:
    """The first token after `first` seconds, each other `gap` later; as many as are asked for."""

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        count = tokens or asked.body["max_tokens"]
        yield HEAD
        for index in range(count):
            await asyncio.sleep(gap if index else first)
            yield event(piece(f" {index}"))
        yield (
            event(piece("", "length"))
            + event(usage(len(prompt_tokens(asked.body)), count, **details))
            + event("[DONE]")
            + END
        )

    return answer


def prompt_tokens(body: Any) -> list[int]:
    """What the fake server counts: a token a word and one before them."""
    if isinstance(body.get("prompt"), list):
        return list(body["prompt"])
    text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    return [1, *(sum(map(ord, word)) for word in text.split())]


class Fake:
    """`answer` is for the endpoint; /v1/models, /version and, if `tokenize`, /tokenize are there too."""

    def __init__(self, answer: Answering, *, tokenize: bool = True) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._tokenize = tokenize
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    @property
    def measured(self) -> list[Asked]:
        return [one for one in self.asked if one.path.endswith("completions")]

    def __enter__(self) -> Fake:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether another request may come on this connection."""
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        method, path, _ = start.split()
        asked = Asked(len(self.measured), method, path, headers, json.loads(body or b"null"), monotonic())
        self.asked.append(asked)
        last = b""
        async for last in self._answer(asked):
            writer.write(last)
            asked.written.append(monotonic())
            await writer.drain()
        return last.endswith(END) or b"content-length" in last

    async def _answer(self, asked: Asked) -> AsyncIterator[bytes]:
        if asked.path.endswith("completions"):
            async for data in self.answer(asked):
                yield data
        elif asked.path == "/v1/models":
            yield plain(200, {"data": [{"id": "fake-model"}]})
        elif asked.path == "/version":
            yield plain(200, {"version": "1.2.3"})
        elif asked.path == "/tokenize" and self._tokenize:
            yield plain(200, {"tokens": prompt_tokens(asked.body)})
        else:
            yield plain(404, {"detail": "Not Found"})

"""A server over a tiny random model, in this process, on a port of its own.

with serving(model) as url: httpx.get(url + "/health")
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intaglio.engine.llm import LLM
from intaglio.server.run import Server
from intaglio.server.settings import Settings
from intaglio.server.start import listen, serve, url_of

SEQUENCES = 8


def opened(model: Path, **changes: Any) -> LLM:
    """The tiny model, with room for a few requests of 1024 tokens."""
    settings = {"threads": 1, "max_context": 1024, "max_sequences": SEQUENCES, "max_tokens": 64, "seed": 1}
    return LLM(str(model), **{**settings, **changes})


class Running:
    """`url`, and what is inside it for tests to look at."""

    def __init__(self, llms: dict[str, LLM], settings: Settings) -> None:
        self.llms = llms
        self.assembled = serve(llms, settings)
        self._socket = listen(settings)
        self.url = url_of(self._socket)
        self.server = Server(*self.assembled)
        self.server.install_signal_handlers = lambda: None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()

    def _run(self) -> None:
        asyncio.run(self.server.serve([self._socket]))

    def __enter__(self) -> Running:
        self._thread.start()
        while not self.server.started and self._thread.is_alive():
            threading.Event().wait(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not end"


@contextmanager
def serving(model: Path, settings: Settings | None = None, **changes: Any) -> Iterator[Running]:
    """One model called "tiny"."""
    with Running({"tiny": opened(model, **changes)}, settings or Settings(port=0)) as running:
        yield running

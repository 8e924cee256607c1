"""Progress: what a long run says while it works. The library is silent unless it is given a callable."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TextIO


class Event(NamedTuple):
    """`done` of `total` steps are finished; `message` says what was done last, or begins now."""

    done: int
    total: int
    message: str


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Say nothing."""


@contextmanager
def console(stream: TextIO | None = None) -> Iterator[Progress]:
    """A bar with the time left on a terminal, else plain lines; on standard error unless `stream` is given.

    TQDM_DISABLE asks for plain lines on a terminal too; NO_COLOR is honoured.
    """
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TQDM_DISABLE", "0") in ("", "0"):
        with _bar(stream) as progress:
            yield progress
    else:
        yield _Lines(stream)


class _Lines:
    """One line an event, with the time left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._first: tuple[int, float] | None = None

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        self._first = self._first or (event.done, now)
        done, seconds = event.done - self._first[0], now - self._first[1]
        left = (
            f", {(event.total - event.done) * seconds / done:.0f} s left"
            if done > 0 and event.done < event.total
            else ""
        )
        print(f"[{event.done}/{event.total}{left}] {event.message}", file=self._stream, flush=True)


@contextmanager
def _bar(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("compress"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task("", total=None)

        def show(event: Event) -> None:
            bar.update(task, total=event.total, completed=event.done)
            bar.console.print(event.message, highlight=False, markup=False)

        yield show

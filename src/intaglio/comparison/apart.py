"""Recipes carried out at once: each by the command that does it alone, in a process of its own."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

from intaglio.errors import ERROR

POLL = 0.1  # seconds


class Done(NamedTuple):
    """One thing that was to be carried out, by its name; why it failed, if it did."""

    name: str
    failure: str | None
    seconds: float


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    since: float  # monotonic, seconds


def run(commands: Mapping[str, str], jobs: int) -> Iterator[Done]:
    """Runs `intaglio compress` so often, `jobs` at once, and yields each as it ends; `commands`: by name.

    What was stopped before goes on. When the iteration is broken off, by Ctrl-C say, those that run are
    interrupted as by Ctrl-C and waited for, and no other begins.
    """
    waiting = deque(commands)
    running: dict[str, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.popleft()
                running[name] = _begun(commands[name])
            for name in [name for name, one in running.items() if one.process.poll() is not None]:
                ended = running.pop(name)
                yield Done(name, _failure(ended), time.monotonic() - ended.since)
            time.sleep(POLL)
    finally:
        for one in running.values():
            one.process.send_signal(signal.SIGINT)
        for one in running.values():
            one.process.wait()


def _begun(command: str) -> _Running:
    _, *words = shlex.split(command)
    argv = [sys.executable, "-m", "intaglio", *words, "--resume", "--quiet"]
    said = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the process
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
    return _Running(process, said, time.monotonic())


def _failure(ended: _Running) -> str | None:
    """What an ended command said of why it failed; None where it did not."""
    with ended.said as said:
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    code = ended.process.returncode
    if code == 0:
        return None
    if code < 0:
        return f"its process was killed by signal {-code}: is there enough memory?"
    _, found, sentence = text.rpartition(ERROR)
    return sentence if found else f"exit code {code}"

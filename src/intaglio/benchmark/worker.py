"""One engine in a process of its own: `python -m intaglio.benchmark.worker`, JSON lines in and out.

in:  a Job, then Workloads           out: a Ready, then the seconds of each; or a Failure, and the end
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import BinaryIO

import msgspec
import numpy as np

from intaglio.benchmark.engines import Engine, Job, open_engine
from intaglio.benchmark.workloads import ANSWER, FIRST, PROMPT, STEPS, Workload
from intaglio.engine.memory import peak_rss
from intaglio.errors import IntaglioError

PR_SET_PDEATHSIG = 1


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine is open and has drawn a token after FIRST others, when the monotonic clock showed
    `first_token`."""

    format: str
    weight_bytes: int
    kv_bits: float
    load_s: float
    first_token: float
    peak_rss_bytes: int


class Timed(msgspec.Struct, frozen=True, tag="timed"):
    """Seconds of one round."""

    seconds: float


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """One sentence."""

    reason: str


Answer = Ready | Timed | Failure


class Rounds:
    """Times workloads on an engine, with random tokens: the same context always, every prompt only once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._random = np.random.default_rng(0)

    def time(self, workload: Workload) -> float:
        match workload.kind:
            case "prefill":
                return self._engine.prefill(self._tokens(self._random, workload.size))
            case "decode":
                fixed = np.random.default_rng(workload.size)
                return self._engine.decode(self._tokens(fixed, workload.size - STEPS), STEPS)
            case "batch":
                prompts = [self._tokens(self._random, PROMPT) for _ in range(workload.size)]
                return self._engine.batch(prompts, ANSWER)

    def _tokens(self, random: np.random.Generator, count: int) -> list[int]:
        found: list[int] = random.integers(0, self._engine.vocab, count).tolist()
        return found


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until `requests` ends."""

    def answer(value: Answer) -> None:
        answers.write(msgspec.json.encode(value) + b"\n")
        answers.flush()

    try:
        rounds, ready = _open(msgspec.json.decode(requests.readline(), type=Job))
        answer(ready)
        for line in requests:
            answer(Timed(rounds.time(msgspec.json.decode(line, type=Workload))))
    except IntaglioError as error:
        answer(Failure(str(error)))
    except (RuntimeError, MemoryError, OSError) as error:  # of a peer: the run goes on without it
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        answer(Failure(first))


def _open(job: Job) -> tuple[Rounds, Ready]:
    started = time.monotonic()
    engine = open_engine(job)
    load, rounds = time.monotonic() - started, Rounds(engine)
    rounds.time(Workload("prefill", FIRST))
    ready = Ready(engine.format, engine.weight_bytes, engine.kv_bits, load, time.monotonic(), peak_rss())
    return rounds, ready


def main() -> None:
    if sys.platform == "linux":  # ends with who started it, however that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an engine prints goes to stderr
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()

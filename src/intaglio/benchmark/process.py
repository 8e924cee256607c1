"""A worker as its parent sees it: started, asked, held while others are measured, ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

import msgspec

from intaglio.benchmark.engines import ENGINES, Job
from intaglio.benchmark.worker import Answer, Failure, Ready, Timed
from intaglio.benchmark.workloads import Workload
from intaglio.errors import IntaglioError

COMMAND = [sys.executable, "-m", "intaglio.benchmark.worker"]


class Worker:
    """One engine's process. It runs only while it is asked: between, even its idle threads stand still."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is the parent's affair
        )
        try:
            answer = self._ask(msgspec.json.encode(job))
            if not isinstance(answer, Ready):
                raise self._failed(answer)
        except BaseException:
            self.close()
            raise
        self.ready = answer
        self._hold()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def first_token_s(self) -> float:
        """Seconds from the start of the process to its first token."""
        return self.ready.first_token - self._started

    def time(self, workload: Workload) -> float:
        """Seconds of one round."""
        self._process.send_signal(signal.SIGCONT)
        answer = self._ask(msgspec.json.encode(workload))
        if not isinstance(answer, Timed):
            raise self._failed(answer)
        self._hold()
        return answer.seconds

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            pipe.close()

    def _hold(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def _ask(self, line: bytes) -> Answer | None:
        """None when the process died over it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        found = self._process.stdout.readline()
        return msgspec.json.decode(found, type=Answer) if found else None

    def _failed(self, answer: Answer | None) -> IntaglioError:
        reason = answer.reason if isinstance(answer, Failure) else self._last_words()
        name = f"{ENGINES[self.job.engine][1]} {self.job.format}".strip()
        return IntaglioError(f"{name} failed: {reason}")

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

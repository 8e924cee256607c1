"""The field: all workers of a run, and rounds in which each is timed once, in turn."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from types import TracebackType
from typing import TypeVar

from intaglio.benchmark.engines import Job
from intaglio.benchmark.process import Worker
from intaglio.benchmark.result import Start, spread
from intaglio.benchmark.workloads import Workload
from intaglio.errors import IntaglioError

STEADY = 0.05  # spread with which nobody is asked again
MOST = 3  # times as many rounds as asked for, at most
PATIENCE = 120.0  # seconds of a workload, after which only the rounds asked for are run

T = TypeVar("T")
Lost = Callable[[Job, str], None]  # who left, and why


class Field:
    """Workers that are open and held; all end with the block."""

    def __init__(self, lost: Lost) -> None:
        self.workers: list[Worker] = []
        self._lost = lost

    def __enter__(self) -> Field:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.close()

    def enter(self, job: Job) -> None:
        """Open it; one that cannot be is lost."""
        try:
            self.workers.append(Worker(job))
        except IntaglioError as error:
            self._lost(job, str(error))

    def race(self, workload: Workload, repeats: int, workers: Sequence[Worker]) -> dict[Worker, list[float]]:
        """Seconds of at least `repeats` rounds; more while they differ, unless that takes too long."""
        started = time.monotonic()
        self._round(workload, workers)  # untimed: memory is touched, contexts are read
        found: dict[Worker, list[float]] = {}
        for index in range(MOST * repeats):
            for worker, seconds in self._round(workload, rotated(workers, index)).items():
                found.setdefault(worker, []).append(seconds)
            if index + 1 >= repeats and (
                all(spread(values) <= STEADY for values in found.values())
                or time.monotonic() - started > PATIENCE
            ):
                break
        return {worker: values for worker, values in found.items() if worker in self.workers}

    def _round(self, workload: Workload, workers: Iterable[Worker]) -> dict[Worker, float]:
        found = {}
        for worker in workers:
            if worker not in self.workers:
                continue
            try:
                found[worker] = worker.time(workload)
            except IntaglioError as error:
                self._leave(worker, str(error))
        return found

    def _leave(self, worker: Worker, reason: str) -> None:
        self.workers.remove(worker)
        worker.close()
        self._lost(worker.job, reason)


def starts(jobs: Sequence[Job], repeats: int, lost: Lost) -> list[Start]:
    """Fresh processes, `repeats` of each, in turn."""
    python: list[float] = []
    runs: dict[Job, list[Worker]] = {job: [] for job in jobs}
    for index in range(repeats):
        python.append(interpreter())
        for job in rotated(list(runs), index):
            try:
                worker = Worker(job)
            except IntaglioError as error:
                del runs[job]
                lost(job, str(error))
            else:
                worker.close()
                runs[job].append(worker)
    return [_start(found, median(python)) for found in runs.values()]


def interpreter() -> float:
    """Seconds of a Python that does nothing."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return time.monotonic() - started


def rotated(values: Sequence[T], by: int) -> list[T]:
    """Who was first is last in the next round."""
    first = by % len(values) if values else 0
    return [*values[first:], *values[:first]]


def _start(runs: Sequence[Worker], python: float) -> Start:
    first = median(run.first_token_s for run in runs)
    return Start(
        engine=runs[0].job.engine,
        format=runs[0].ready.format,
        load_s=median(run.ready.load_s for run in runs),
        first_token_s=first,
        beyond_python_s=first - python,
        peak_rss_bytes=round(median(run.ready.peak_rss_bytes for run in runs)),
        rounds=len(runs),
    )

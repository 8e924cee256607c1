"""Workers: where the matrices of a block are coded: in this process, in others, or on a Ray cluster.

One matrix is one task: a pure function of what it is given, carried out on as many threads as the run has, so
that its codes are the same, bit for bit, wherever that is. A worker that dies loses its task to another.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from intaglio.errors import IntaglioError, UsageError
from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.lazy import lazy
from intaglio.recipe import Rule
from intaglio.terms import Coded, Metric

if TYPE_CHECKING:
    import ray
    import torch

    from intaglio.types import Array, Tensor
else:
    torch = lazy("torch", extra="compress")
    ray = lazy("ray", extra="distributed")

LIVES = 3  # of a task: how many workers may die over it before it counts as the cause


class Task(NamedTuple):
    """One matrix and everything its codes depend on."""

    rule: Rule
    w: Tensor
    bias: Tensor | None
    metric: Metric
    name: str


class Workers(Protocol):
    """Carries out tasks."""

    def solve(self, tasks: Sequence[Task]) -> list[Coded]:
        """Their results in the order of the tasks; raises the first error of any."""
        ...


def solve(task: Task) -> Coded:
    """One matrix by its rule; with an order, its columns so."""
    rule, w, metric = task.rule, task.w, task.metric
    order = _order(rule, metric)
    if order is not None:
        w, metric = w[:, order], metric.ordered(order)
    coded = rule.solver.solve(
        w,
        rule.terms,
        metric,
        clip=rule.clip,
        activation=rule.activation,
        bias=task.bias,
        name=task.name,
    )
    if order is None:
        return coded
    return dataclasses.replace(coded, order=to_numpy(order).astype(np.uint16))


def _order(rule: Rule, metric: Metric) -> Tensor | None:
    """The inputs by rising power, if the rule wants them so and their power is known."""
    if rule.order is None or metric.h is None:
        return None
    return metric.diagonal(len(metric.h)).argsort(stable=True)


class Here:
    """One after another, in this process."""

    def solve(self, tasks: Sequence[Task]) -> list[Coded]:
        """Their results in the order of the tasks."""
        return [solve(task) for task in tasks]


class Processes:
    """`jobs` processes on this machine."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._threads = jobs, torch.get_num_threads()
        self._pool = self._open()

    def solve(self, tasks: Sequence[Task]) -> list[Coded]:
        """Their results in the order of the tasks; those of a process that died are done again."""
        found: dict[int, Coded] = {}
        for _ in range(LIVES):
            futures = {i: self._submit(task) for i, task in enumerate(tasks) if i not in found}
            for i, future in futures.items():
                try:
                    found[i] = future.result()
                except BrokenProcessPool:
                    continue
            if len(found) == len(tasks):
                return [found[i] for i in range(len(tasks))]
            self.close()
            self._pool = self._open()
        lost = ", ".join(task.name for i, task in enumerate(tasks) if i not in found)
        raise IntaglioError(f"{LIVES} times a worker process was killed over {lost}: is there enough memory?")

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        return ProcessPoolExecutor(self._jobs, context, _begin, (self._threads,))

    def _submit(self, task: Task) -> Future[Coded]:
        try:
            return self._pool.submit(_solve_packed, _packed(task))
        except BrokenProcessPool as error:
            broken: Future[Coded] = Future()
            broken.set_exception(error)
            return broken


class Cluster:
    """Tasks of a Ray cluster: that at `address`; for "auto" a running one, or else one on this machine."""

    def __init__(self, address: str) -> None:
        self._threads = torch.get_num_threads()
        self._began = not ray.is_initialized()
        if self._began:
            _connect(address)
        options = {"num_cpus": self._threads, "max_retries": LIVES - 1}
        self._solve = ray.remote(_solve_on).options(**options)

    def solve(self, tasks: Sequence[Task]) -> list[Coded]:
        """Their results in the order of the tasks; those of a worker that died are done again."""
        metrics = {id(task.metric): task.metric for task in tasks}  # q, k and v have the same
        shared = {key: ray.put(_arrays(metric)) for key, metric in metrics.items()}
        calls = [
            self._solve.remote(_packed(task)._replace(metric=()), shared[id(task.metric)], self._threads)
            for task in tasks
        ]
        try:
            done: list[Coded] = ray.get(calls)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError as error:
            raise IntaglioError(f"the Ray cluster failed: {str(error).splitlines()[0]}") from error
        return done

    def close(self) -> None:
        """Leaves the cluster; one begun for this run ends."""
        if self._began:
            ray.shutdown()


@contextmanager
def workers(jobs: int, distributed: str | None) -> Iterator[Workers]:
    """`jobs` processes, or a Ray cluster, for as long as the context lasts."""
    if jobs > 1 and distributed:
        raise UsageError("jobs are processes of this machine; a Ray cluster has its own: give one of the two")
    if jobs < 2 and not distributed:
        yield Here()
        return
    crew = Cluster(distributed) if distributed else Processes(jobs)
    try:
        yield crew
    finally:
        crew.close()


class _Packed(NamedTuple):
    """A task as it travels: arrays of numpy."""

    rule: Rule
    w: Array
    bias: Array | None
    metric: tuple[Array | None, ...]
    name: str


def _packed(task: Task) -> _Packed:
    bias = None if task.bias is None else to_numpy(task.bias)
    return _Packed(task.rule, to_numpy(task.w), bias, _arrays(task.metric), task.name)


def _arrays(metric: Metric) -> tuple[Array | None, ...]:
    fields = (getattr(metric, field.name) for field in dataclasses.fields(metric))
    return tuple(None if value is None else to_numpy(value) for value in fields)


def _solve_packed(task: _Packed) -> Coded:
    bias, *metric = (None if a is None else to_torch(a) for a in (task.bias, *task.metric))
    with torch.no_grad():
        return solve(Task(task.rule, to_torch(task.w), bias, Metric(*metric), task.name))


def _solve_on(task: _Packed, metric: tuple[Array | None, ...], threads: int) -> Coded:
    torch.set_num_threads(threads)
    return _solve_packed(task._replace(metric=metric))


def _begin(threads: int) -> None:
    """Ctrl-C is the main process's affair, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        if address != "auto":
            raise IntaglioError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from None
        ray.init(include_dashboard=False, **quiet)

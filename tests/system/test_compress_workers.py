"""Matrices coded in other processes, or on a Ray cluster: to the same bytes, whoever dies."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import intaglio
from intaglio.compression import Event
from intaglio.compression.workers import LIVES, Processes, Task
from intaglio.errors import IntaglioError, UsageError
from intaglio.formats import Integer
from intaglio.recipe import Rule
from intaglio.terms import Dense, Metric
from tests.system.small import SET, contents, names, save_model

RAY_WORKERS = (b"ray::IDLE", b"ray::_solve_on")  # the titles of their processes
TERMS = (Dense(Integer(4)),)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process writes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    intaglio.compress(model, "gptq-w4", output, set=SET, threads=1)
    return contents(output)


def after_the_first_layer(act: Callable[[], None]) -> Callable[[Event], None]:
    """A progress callback that acts once."""
    return lambda event: act() if event.done == 1 else None


def kill_a_child() -> None:
    victim = multiprocessing.active_children()[0]
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()


def kill_ray_workers() -> None:
    found = 0
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and (process / "cmdline").read_bytes().startswith(RAY_WORKERS):
                os.kill(int(process.name), signal.SIGKILL)
                found += 1
        except OSError:
            continue
    assert found


@pytest.mark.parametrize("act", [lambda: None, kill_a_child], ids=["undisturbed", "killed"])
def test_processes_write_the_same_bytes(
    model: Path, whole: dict[str, str], tmp_path: Path, act: Callable[[], None]
) -> None:
    output = tmp_path / "out"
    progress = after_the_first_layer(act)
    intaglio.compress(model, "gptq-w4", output, set=SET, threads=1, jobs=2, progress=progress)
    assert contents(output) == whole
    assert names(tmp_path) == ["out"]


@needs_ray
@pytest.mark.timeout(300)
def test_a_ray_cluster_writes_the_same_bytes_though_its_workers_are_killed(
    model: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    progress = after_the_first_layer(kill_ray_workers)
    intaglio.compress(model, "gptq-w4", output, set=SET, threads=1, distributed="auto", progress=progress)
    assert contents(output) == whole


class Deadly:
    """A solver that takes its process with it."""

    def solve(self, *arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def crew() -> Iterator[Processes]:
    made = Processes(2)
    yield made
    made.close()


def test_a_task_that_kills_its_workers_is_named(crew: Processes) -> None:
    rule = Rule(terms=TERMS, solver=Deadly())  # type: ignore[arg-type]
    with pytest.raises(IntaglioError, match=f"{LIVES} times a worker process was killed over layer 7 q"):
        crew.solve([Task(rule, torch.ones(2, 8), None, Metric(), "layer 7 q")])


def test_an_error_of_a_worker_is_the_error(crew: Processes) -> None:
    good, bad = torch.ones(4, 4), torch.ones(4, 4)
    bad[1, 2] = torch.nan
    tasks = [
        Task(Rule(terms=TERMS), w, None, Metric(), name) for w, name in ((good, "q"), (bad, "layer 3 k"))
    ]
    with pytest.raises(IntaglioError, match="layer 3 k: 1 of 16 weights are NaN"):
        crew.solve(tasks)


def test_jobs_and_a_cluster_exclude_each_other(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give one of the two"):
        intaglio.compress(model, "rtn-w4", tmp_path / "out", jobs=2, distributed="auto")

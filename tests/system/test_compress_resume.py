"""Runs that are killed, interrupted or out of space, and continued to the same bytes."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio.compression import Event, InterruptedRunError
from intaglio.errors import IntaglioError, UsageError
from tests.system.small import SET, contents, names, save_model

PROGRAM = """
import sys, intaglio
def say(event):
    print(event.done, flush=True)
model, output, *settings = sys.argv[1:]
intaglio.compress(model, "qserve", output, set=settings, threads=1, progress=say)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), num_hidden_layers=4)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed run writes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    compress(model, output)
    return contents(output)


def compress(model: Path, output: Path, **options: object) -> None:
    intaglio.compress(model, "qserve", output, set=SET, threads=1, **options)  # type: ignore[arg-type]


def started(model: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(model), str(output), *SET]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_run_continues_to_the_same_bytes(
    model: Path, tmp_path: Path, whole: dict[str, str], seed: int
) -> None:
    chance = random.Random(seed)
    output = tmp_path / "out"
    with started(model, output) as process:
        assert process.stdout
        for _ in range(chance.randint(1, 3)):
            process.stdout.readline()
        time.sleep(chance.random() * 0.03)
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == ["out.partial"]
    compress(model, output, resume=True)
    assert contents(output) == whole
    assert names(tmp_path) == ["out"]


class Stop(BaseException):
    """Ends a run wherever it is raised."""


@pytest.mark.parametrize("renames", range(1, 12, 2))
def test_a_run_stopped_before_any_rename_continues_to_the_same_bytes(
    model: Path, tmp_path: Path, whole: dict[str, str], renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks and activations appear by renaming: the run ends just before the n-th."""
    left = [renames]

    def counted(self: Path, target: Path, real: object = Path.rename) -> Path:
        left[0] -= 1
        if not left[0]:
            raise Stop
        return real(self, target)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(Path, "rename", counted)
    monkeypatch.setattr(Path, "replace", counted)
    with pytest.raises(Stop):
        compress(model, tmp_path / "out")
    monkeypatch.undo()
    assert "out" not in names(tmp_path)
    compress(model, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == whole


class Interrupt:
    """Ctrl-C after so many finished blocks."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    def __call__(self, event: Event) -> None:
        if event.done == self.blocks:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_the_blocks_and_says_how_to_go_on(
    model: Path, tmp_path: Path, whole: dict[str, str]
) -> None:
    with pytest.raises(
        InterruptedRunError, match=r"2 finished blocks are kept in .*out\.partial.*--resume"
    ) as caught:
        compress(model, tmp_path / "out", progress=Interrupt(2))
    assert caught.value.exit_code == 130
    assert names(tmp_path) == ["out.partial"]
    with pytest.raises(UsageError, match="continue it with --resume, or remove it"):
        compress(model, tmp_path / "out")
    compress(model, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 5}, "another recipe:"),
        ({"calibration": "text.txt"}, "another calibration text:"),
        ({"set": ("transforms.rotate.enabled=false",)}, "another recipe:"),
    ],
)
def test_another_run_is_not_continued(
    model: Path, tmp_path: Path, change: dict[str, object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("another text, long enough for one window of thirty-two. " * 9)
    with pytest.raises(InterruptedRunError):
        compress(model, tmp_path / "out", progress=Interrupt(1))
    options: dict[str, object] = {"set": SET, "threads": 1, "resume": True, **change}
    options["set"] = (*SET, *(change.get("set", ())))  # type: ignore[misc]
    with pytest.raises(UsageError, match=named):
        intaglio.compress(model, "qserve", tmp_path / "out", **options)  # type: ignore[arg-type]
    assert "out.partial" in names(tmp_path)


def test_two_runs_do_not_share_a_journal(model: Path, tmp_path: Path) -> None:
    def second(event: Event) -> None:
        with pytest.raises(UsageError, match="another run is working there"):
            compress(model, tmp_path / "out", resume=True)
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        compress(model, tmp_path / "out", progress=second)


def test_a_foreign_directory_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "precious").write_text("x")
    for resume in (False, True):
        with pytest.raises(IntaglioError, match=r"out\.partial holds"):
            compress(model, tmp_path / "out", resume=resume)
    assert names(tmp_path / "out.partial") == ["precious"]


def test_a_full_disk_is_a_sentence_and_the_run_continues(
    model: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = [0]

    def full(*arguments: object, real: object = np.save, **named: object) -> None:
        saved[0] += 1
        if saved[0] > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments, **named)  # type: ignore[operator]

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(IntaglioError, match=r"no space left on device.*1 finished blocks are kept") as caught:
        compress(model, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert names(tmp_path) == ["out.partial"]
    monkeypatch.undo()
    compress(model, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_small_disk_leaves_nothing_under_the_final_name(model: Path, small_disk: Path) -> None:
    with pytest.raises(IntaglioError, match="no space left on device"):
        compress(model, small_disk / "out")
    assert "out" not in names(small_disk)

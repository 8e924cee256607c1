"""Files and directories appear whole or not at all, and what killed runs left is swept up."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from intaglio.compression import compress
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.durable import new_directory, new_file, restore

KILLED = """
import sys, time
from pathlib import Path
from intaglio.models.durable import new_directory
with new_directory(Path(sys.argv[1])) as directory:
    (directory / "part").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""

BETWEEN = """
import sys, time
from pathlib import Path
from intaglio.models.durable import new_directory
rename = Path.rename
def slow(self, target):
    if self.suffix == ".tmp":
        print("ready", flush=True)
        time.sleep(60)
    return rename(self, target)
Path.rename = slow
with new_directory(Path(sys.argv[1]), force=True) as directory:
    (directory / "part").write_text("new")
"""


def begin(path: Path, script: str = KILLED) -> subprocess.Popen[str]:
    """Another process in the middle of writing `path`, or of replacing it."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, path], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "a[1]"  # a name that means something else to glob
    killed, running = begin(target), begin(target)
    end(killed)
    assert len(list(tmp_path.iterdir())) == 2
    with new_directory(target) as directory:
        (directory / "part").write_text("whole")
    assert (target / "part").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2  # the target, and what the running one holds
    end(running)
    with new_directory(target, force=True):
        pass
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_set_aside_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with new_directory(target) as directory:
        (directory / "part").write_text("old")
    running = begin(target, BETWEEN)
    restore(target)
    assert not target.exists()  # the running one has it in hand
    end(running)
    with pytest.raises(UsageError, match="exists and is not empty"):
        compress("/nowhere", "rtn-w4", target)
    assert (target / "part").read_text() == "old"
    with new_directory(target, force=True) as directory:
        (directory / "part").write_text("newer")
    assert (target / "part").read_text() == "newer"
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_replaced_goes(tmp_path: Path) -> None:
    """Killed when the new one stood and the old one was not yet removed."""
    target, old = tmp_path / "a", tmp_path / ".a.x.old"
    for directory in (target, old):
        directory.mkdir()
        (directory / "part").write_text(directory.name)
    restore(target)
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "part").read_text() == "a"


def test_permissions_are_the_users(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with new_file(tmp_path / "f") as file:
            file.write_text("x")
        with new_directory(tmp_path / "d"):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


def test_parents_are_made_and_faults_are_sentences(tmp_path: Path) -> None:
    with new_directory(tmp_path / "x" / "y"):
        pass
    assert (tmp_path / "x" / "y").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(IntaglioError, match="could not be written: "), new_directory(tmp_path / "file" / "y"):
        pass
    with (
        pytest.raises(IntaglioError, match="could not be written: no such file"),
        new_file(tmp_path / "q" / "f"),
    ):
        pass


def test_readers_see_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with new_file(path) as file:
        file.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError):
        fail(path)
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def fail(path: Path) -> None:
    with new_file(path) as file:
        file.write_text("never")
        _ = 1 // 0

"""The native core alone: a program of its own feeds random models in random steps (native/tests/stress)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "build" / "stress"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


def test_random_steps_keep_the_promises() -> None:
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    configured = run(cmake, "-S", PROJECT / "native" / "tests" / "stress", "-B", BUILD)
    assert configured.returncode == 0, configured.stderr
    built = run(cmake, "--build", BUILD, "-j", "2")
    assert built.returncode == 0, built.stdout + built.stderr
    checked = run(BUILD / "stress", "5")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.endswith(" 0 faults\n")

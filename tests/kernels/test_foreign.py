"""Instruction sets this processor may lack, run through SIMDe in a program of their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "native" / "tests"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


def compiles(tmp_path: Path, header: str) -> bool:
    source = tmp_path / "probe.cpp"
    source.write_text(f"#include <{header}>\n")
    return run("c++", "-E", source, "-o", tmp_path / "probe.i").returncode == 0


def test_foreign_sets_equal_the_definition(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    if not compiles(tmp_path, "simde/x86/avx512.h"):
        pytest.skip("SIMDe is not installed: sudo apt install libsimde-dev")
    configured = run(cmake, "-S", PROJECT, "-B", tmp_path)
    assert configured.returncode == 0, configured.stderr
    built = run(cmake, "--build", tmp_path, "-j", "2")
    assert built.returncode == 0, built.stdout
    checked = run(tmp_path / "foreign_isas")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.split("\n")[:4] == [
        "amx checked",
        "avx512vnni checked",
        "avxvnni checked",
        "neon checked",
    ]

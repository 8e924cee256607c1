"""Use of all kinds leaves nothing behind; `bench/soak.py` says the same of an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "soak.py"
MEMORY_MB = 64  # buffers and caches fill during the first 25,000 requests (by some 30 MB); then nothing grows


def test_a_short_soak_leaves_nothing_behind(tiny: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tiny), "--minutes", "0.25", "--json"]
    command += ["--memory-mb", str(MEMORY_MB)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert not found["faults"], found
    assert done.returncode == 0
    assert sum(found["asked"].values()) > 100
    assert len(found["asked"]) == 12, "some kind of use never came about"

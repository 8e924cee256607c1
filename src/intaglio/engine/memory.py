"""Memory: how much of it this process has used."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_rss() -> int:
    """The most that was resident at once, in bytes. Linux's own mark: getrusage's also counts the process
    that started us."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

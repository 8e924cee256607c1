"""Processor: what this machine's calls itself."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """As Linux knows it, or else as Python does: "AMD EPYC 7B13 64-Core Processor"."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

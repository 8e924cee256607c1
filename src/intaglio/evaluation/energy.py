"""Energy: what the processor's own meters (RAPL) say, where they can be read."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Joules since it was made; None without a readable meter."""

    def __init__(self, root: Path = POWERCAP) -> None:
        packages = sorted(root.glob("intel-rapl:?")) if root.is_dir() else []
        self._start = {
            package: energy for package in packages if (energy := _read(package / "energy_uj")) is not None
        }

    def joules(self) -> float | None:
        """All packages together; each counter may have wrapped around once."""
        if not self._start:
            return None
        total = 0
        for package, start in self._start.items():
            now = _read(package / "energy_uj")
            if now is None:
                return None
            total += (
                now - start if now >= start else now - start + (_read(package / "max_energy_range_uj") or 0)
            )
        return total / 1e6


def _read(path: Path) -> int | None:
    """The number in a file; None where it is missing or not ours to read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None

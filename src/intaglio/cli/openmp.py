"""How torch's threads wait, which OpenMP reads from the environment once, when torch is imported."""

from __future__ import annotations

import os

CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_passively() -> None:
    """Let them sleep unless the user chose: where processes share cores, spinning slows all twentyfold."""
    if not any(name in os.environ for name in CHOSEN_BY):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

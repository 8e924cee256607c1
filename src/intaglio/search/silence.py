"""Silence: standard output kept clean of HiGHS, which prints debugging lines whatever it is told.

A verb's `--json` promises one object there and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT = 1


@contextmanager
def silence() -> Iterator[None]:
    """Nothing that C or C++ code prints in the block reaches standard output."""
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    kept, nowhere = os.dup(STDOUT), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDOUT)
        yield
    finally:
        libc.fflush(None)  # what is still in C's buffer would come out later
        os.dup2(kept, STDOUT)
        os.close(kept)
        os.close(nowhere)

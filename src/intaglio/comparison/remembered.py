"""Remembered: a model whose logits are asked for on the same windows again and again, computed once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from intaglio.evaluation.runtime import Runtime, Seconds
from intaglio.types import Array

SPARE = 2 << 30  # bytes of the disk that are left to others


class Remembered(Runtime):
    """Another runtime with its logits on disk, in files without a name, which end with the process.

    Where the disk has no room they are computed each time.
    """

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.name, self.dtype = runtime.name, runtime.dtype
        self.threads, self.libraries = runtime.threads, runtime.libraries
        self._runtime, self._directory = runtime, directory
        self._kept: dict[bytes, Array] = {}

    def logits(self, tokens: Array) -> Array:
        found = self._kept.get(tokens.tobytes())
        return self._put_down(tokens) if found is None else found

    def time(self, prompt: Sequence[int], tokens: int) -> Seconds:
        return self._runtime.time(prompt, tokens)

    def _put_down(self, tokens: Array) -> Array:
        logits = self._runtime.logits(tokens)
        self._directory.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._directory).free < SPARE + logits.nbytes:
            return logits
        with tempfile.TemporaryFile(dir=self._directory) as file:
            np.ascontiguousarray(logits).tofile(file)
            self._kept[tokens.tobytes()] = np.memmap(file, logits.dtype, "r", shape=logits.shape)
        return logits

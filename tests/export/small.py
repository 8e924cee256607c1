"""Tiny models, coded, for exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import intaglio
from intaglio.engine.executor import Executor
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array
from tests import tiny_llm

IDS = np.arange(40) % 131
LIMITS = ("limits.perplexity=1000000", "limits.kl=100")


def coded(directory: Path, recipe: str, *changes: str, case: str = "llama", **config: object) -> Checkpoint:
    """The tiny model, compressed by `recipe` with `changes`."""
    source = tiny_llm.write_model(directory / "source", case, **config)
    output = directory / "coded"
    intaglio.compress(source, recipe, output, samples=2, seq_len=32, set=[*changes, *LIMITS])
    return open_checkpoint(output)


def logits(checkpoint: Checkpoint) -> Array:
    return Executor(checkpoint, threads=1, kv="fp32", max_sequences=1).logits(IDS)

"""The windows of tokens a run observes, drawn from documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.engine.score import windows
from intaglio.errors import IntaglioError
from intaglio.models import texts
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.tokenizer import Tokenizer
from intaglio.recipe import Calibration
from intaglio.types import Array

Text = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Windows:
    """`tokens` (windows, seq_len) int64; the name of the text they were drawn from, and its SHA-256."""

    tokens: Array
    name: str
    text: str


def draw(checkpoint: Checkpoint, source: Text, settings: Calibration) -> Windows:
    """`samples` windows (all, if there are fewer), chosen by `seed` among all that the text holds."""
    if settings.seq_len > checkpoint.spec.max_position:
        raise IntaglioError(
            f"{checkpoint.name} reads at most {checkpoint.spec.max_position} tokens, "
            f"windows of {settings.seq_len} were asked for: give a smaller --seq-len"
        )
    documents = texts.documents(source)
    names = [Path(one).name for one in ([source] if isinstance(source, (str, Path)) else source)]
    found = cut(checkpoint, documents, settings.seq_len, "the calibration text")
    order = np.random.default_rng(settings.seed).permutation(len(found))
    return Windows(found[np.sort(order[: settings.samples])], ", ".join(names), texts.fingerprint(documents))


def cut(checkpoint: Checkpoint, documents: Sequence[str], seq_len: int, what: str) -> Array:
    """Documents joined and cut into windows that do not overlap -> int64 (windows, seq_len)."""
    tokenizer = Tokenizer.from_files(checkpoint.files)
    stream = [token for text in documents for token in tokenizer.encode(text, special=False)]
    return np.stack(windows(stream, seq_len, None, what)).astype(np.int64)

"""A small model with a tokenizer on disk, and what a run of it leaves behind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tests.models.tiny import save_tiny

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;:!?'\"()[]{}<>=+-*/_\n"
SET = ("calibration.samples=6", "calibration.seq_len=32")  # what makes a recipe quick


def save_model(directory: Path, name: str = "llama", **changes: Any) -> Path:
    """A random model of three layers whose tokens are characters."""
    save_tiny(name, directory, **{"num_hidden_layers": 3, **changes})
    tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def tokenizer() -> Tokenizer:
    """One token a character."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    vocabulary |= {character: 4 + i for i, character in enumerate(CHARACTERS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("(?m)."), "isolated")
    return made


def contents(directory: Path) -> dict[str, str]:
    """File name -> SHA-256 of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def names(directory: Path) -> list[str]:
    """Everything in a directory, hidden or not."""
    return sorted(path.name for path in directory.iterdir())

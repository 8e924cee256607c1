"""Tiny models to search, and quick settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from intaglio.recipe import Calibration
from intaglio.search import Request
from tests import tiny_llm
from tests.models.tiny import tiny

QUICK = Calibration(samples=6, seq_len=64)


def planted(directory: Path, quiet: tuple[int, ...], layers: int = 4) -> Path:
    """A model whose `quiet` layers put out a hundredth: their codes matter little, the others' much."""
    model = tiny("llama", vocab_size=tiny_llm.VOCAB, num_hidden_layers=layers)
    with torch.no_grad():
        for index in quiet:
            model.model.layers[index].self_attn.o_proj.weight.mul_(0.01)
            model.model.layers[index].mlp.down_proj.weight.mul_(0.01)
    model.save_pretrained(directory)
    tiny_llm.write_tokenizer(directory)
    return directory


def request(model: Path, **changes: Any) -> Request:
    settings = {"calibration": QUICK, "threads": 1, "directory": model.with_name("found")} | changes
    return Request(model=str(model), **settings)

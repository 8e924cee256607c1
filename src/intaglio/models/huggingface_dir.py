"""A directory in Hugging Face's layout: config.json, safetensors, tokenizer files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from intaglio.errors import IntaglioError
from intaglio.models import json_text, plain
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.checksums import hash_files
from intaglio.models.json_text import shown
from intaglio.models.shards import Shards

CONFIG = "config.json"
# what is carried along with a model from place to place
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "LICENSE",
    "README.md",
)


def open_directory(path: Path, config: dict[str, Any], dtype: plain.Dtype | None = None) -> Checkpoint:
    """The plain model in `path`, whose config.json is `config`."""
    if quantized := config.get("quantization_config"):
        raise IntaglioError(f"{path}: {_refusal(quantized)}")
    tensors = Shards.open(path)
    return plain.checkpoint(
        str(path),
        config,
        tensors,
        files=read_files(path),
        identify=lambda: fingerprint(config, hash_files(tensors.paths()), dtype),
        dtype=dtype,
    )


def read_files(path: Path) -> dict[str, bytes]:
    """The companions that are there."""
    return {name: json_text.read_bytes(path / name) for name in FILES if (path / name).is_file()}


def fingerprint(*parts: object) -> str:
    """SHA-256 of a configuration, the sums of files, and whatever else the weights depend on."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _refusal(quantized: object) -> str:
    method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
    return f"is already compressed with {shown(method)}, which is not read: give the model it was made from"

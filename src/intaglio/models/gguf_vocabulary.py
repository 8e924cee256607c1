"""From a checkpoint's tokenizer files to the fields of a GGUF file's vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from intaglio.models.checkpoint import Checkpoint
from intaglio.models.gguf_tokenizer import CONTROL, SPLITS, USER_DEFINED

NORMAL, UNUSED = 1, 5  # token types
NONE = {"tokenizer.ggml.model": "no_vocab"}


def vocabulary(checkpoint: Checkpoint) -> dict[str, Any]:
    """Metadata keys and values. A byte-level BPE with merges is written; other tokenizers as `no_vocab`."""
    content = checkpoint.files.get("tokenizer.json") if "tokenizer.json" in checkpoint.files else None
    tokenizer = json.loads(content) if content else {}
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback") or not model.get("merges"):
        return dict(NONE)
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens") or ()}
    tokens, types = _tokens(model["vocab"], added, checkpoint.spec.vocab_size)
    keys: dict[str, Any] = {
        "model": "gpt2",
        "pre": _split_rule(tokenizer),
        "tokens": tokens,
        "token_type": types,
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (keys | _special(checkpoint.config)).items()}


def _tokens(
    vocab: Mapping[str, int], added: Mapping[int, Mapping[str, Any]], size: int
) -> tuple[list[str], list[int]]:
    """Texts and types of all rows of the embedding, also of those no token stands for."""
    texts = {index: text for text, index in vocab.items()} | {
        i: entry["content"] for i, entry in added.items()
    }
    tokens = [texts.get(i, f"[unused{i}]") for i in range(size)]
    return tokens, [_type(i, texts, added) for i in range(size)]


def _type(index: int, texts: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> int:
    if index in added:
        return CONTROL if added[index].get("special") else USER_DEFINED
    return NORMAL if index in texts else UNUSED


def _split_rule(tokenizer: Mapping[str, Any]) -> str:
    """The name of the rule that splits by the same patterns; what is fed as tokens never needs it."""
    before = tokenizer.get("pre_tokenizer") or {}
    parts: Sequence[Mapping[str, Any]] = before.get("pretokenizers") or [before]
    patterns = tuple(part["pattern"].get("Regex") for part in parts if part.get("type") == "Split")
    return next((name for name, known in SPLITS.items() if tuple(known) == patterns), "default")


def _special(config: Mapping[str, Any]) -> dict[str, int]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {}
    for field, name in names.items():
        value = config.get(field)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int):
            found[f"{name}_token_id"] = first
    return found

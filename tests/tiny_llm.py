"""A tiny random model with a tokenizer, as a directory: bytes are tokens, so most characters take several.

directory = write_model(tmp_path)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tests.models.tiny import save_tiny

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<eos>"]
VOCAB = len(SPECIAL) + 256


def tokenizer() -> tokenizers.Tokenizer:
    """Three special tokens, then the 256 bytes; no merges."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = tokenizers.Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


def write_tokenizer(directory: Path) -> None:
    tokenizer().save(str(directory / "tokenizer.json"))
    settings = {"eos_token": "<eos>", "bos_token": "<bos>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def write_model(directory: Path, name: str = "llama", **changes: Any) -> Path:
    """config.json, model.safetensors and the tokenizer in `directory`."""
    save_tiny(name, directory, vocab_size=VOCAB, **changes)
    write_tokenizer(directory)
    return directory

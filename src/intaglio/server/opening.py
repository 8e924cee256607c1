"""Opening: the models of a server, by the names that clients call them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from intaglio.engine.executor import pages_within
from intaglio.engine.llm import LLM
from intaglio.models import open_checkpoint, scheme

KV = {bits: scheme.KV[bits] for bits in (4, 8, 16)}  # bits of keys and values on offer -> their codec


def name_of(model: str) -> str:
    """What clients call a model that was given no name: the last part of its path."""
    return model.rstrip("/").rsplit("/", 1)[-1]


def open_models(
    models: Mapping[str, str],
    *,
    kv: str | None,
    kv_memory: int | None,
    max_sequences: int,
    max_tokens: int | None = None,
    seed: int | None = None,
    **settings: Any,
) -> dict[str, LLM]:
    """Names and where the models lie -> opened, together in `kv_memory` bytes (None: enough).

    A step has a token for every place; `seed` None: random; other settings are LLM's own.
    """
    share = None if kv_memory is None else kv_memory // len(models)
    opened = {}
    for name, model in models.items():
        checkpoint = open_checkpoint(model)
        opened[name] = LLM(
            checkpoint,
            kv=kv,
            pages=None if share is None else pages_within(checkpoint, kv, share),
            max_sequences=max_sequences,
            max_tokens=max_tokens and max(max_tokens, max_sequences),
            seed=secrets.randbelow(2**31) if seed is None else seed,
            **settings,
        )
    return opened

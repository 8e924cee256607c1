"""A served model: its engine, its words, and what a client may know of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.errors import IntaglioError, UsageError
from intaglio.models import scheme
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.tokenizer import Tokenizer
from intaglio.server.engine import Engine
from intaglio.server.grammars import Compiled, Grammars
from intaglio.server.refusal import Refusal
from intaglio.server.structured import Grammar


@dataclass(frozen=True)
class Served:
    """One model behind one engine."""

    engine: Engine
    defaults: SamplingParams  # of its generation_config.json

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def llm(self) -> LLM:
        return self.engine.llm

    @property
    def tokenizer(self) -> Tokenizer:
        return self.llm.tokenizer

    @property
    def max_context(self) -> int:
        return self.llm.max_context

    @cached_property
    def grammars(self) -> Grammars:
        return Grammars(self.tokenizer, self.llm.checkpoint.spec.vocab_size)

    async def compiled(self, grammar: Grammar | None) -> Compiled | None:
        """What makes masks; beside the event loop, for it may take long."""
        return None if grammar is None else await asyncio.to_thread(self.grammars.compiled, grammar)

    @cached_property
    def card(self) -> dict[str, Any]:
        """Its entry of /v1/models."""
        checkpoint, executor = self.llm.checkpoint, self.llm.executor
        return {
            "id": self.name,
            "object": "model",
            "created": self.engine.created,
            "owned_by": "intaglio",
            "root": self.name,
            "parent": None,
            "max_model_len": self.max_context,
            "meta": {
                "bytes": checkpoint.nbytes,
                "bits_per_weight": round(
                    scheme.bits_per_weight(checkpoint, scheme.parameters(checkpoint)), 3
                ),
                "kv_bits": executor.kv_bits,
                "isa": executor.isa,
                "threads": executor.threads,
            },
        }


def defaults_of(checkpoint: Checkpoint) -> SamplingParams:
    """What a model's makers recommend; where they say nothing: drawn as it is."""
    try:
        own = json.loads(checkpoint.files.get("generation_config.json", b"{}"))
    except ValueError:
        own = {}
    wanted: dict[str, Any] = {}
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
        value = own.get(name) if isinstance(own, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            wanted[name] = value
    if isinstance(own, dict) and own.get("do_sample") is False:
        wanted["temperature"] = 0.0
    try:
        return SamplingParams(**{"temperature": 1.0, **wanted})
    except UsageError as error:
        raise IntaglioError(f"{checkpoint.name}: generation_config.json: {error}") from None


class Models:
    """Those that are served, by name; the first is asked when a request names none."""

    def __init__(self, served: list[Served]) -> None:
        self._served = {one.name: one for one in served}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def find(self, name: str | None) -> Served:
        """By name; refused with 404."""
        if not name:
            return next(iter(self._served.values()))
        if name not in self._served:
            raise Refusal(
                404,
                f"the model {name[:200]!r} is not served here; served: {', '.join(self._served)}",
                param="model",
                code="model_not_found",
            )
        return self._served[name]

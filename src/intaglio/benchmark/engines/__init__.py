"""Engines: what runs a model while it is timed, one file each, all with the same three methods."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

import msgspec

Tokens = Sequence[int]

# engine, as in JSON -> (module of this package, how people write it)
ENGINES = {
    "intaglio": ("native", "intaglio"),
    "llama_cpp": ("llama_cpp", "llama.cpp"),
    "openvino": ("openvino", "openvino"),
    "transformers": ("transformers", "transformers"),
}


class Job(msgspec.Struct, frozen=True):
    """One engine with one format of the model. `model`: a reference, or the file made for this format.

    `positions` and `streams`: the most a workload will need.
    """

    engine: str
    format: str
    model: str
    threads: int
    positions: int
    streams: int
    isa: str | None = None
    kv: str | None = None


class Engine(Protocol):
    """A model, opened. All decoding is greedy and heeds no end of text; seconds are those of the wall.

    `weight_bytes`: what a step reads of the weights; `kv_bits`: of one number of a key or value.
    """

    format: str
    weight_bytes: int
    kv_bits: float
    vocab: int

    def prefill(self, prompt: Tokens) -> float:
        """Seconds until the first token after `prompt` is drawn."""
        ...

    def decode(self, context: Tokens, steps: int) -> float:
        """Seconds of `steps` single tokens after `context`, which is remembered from call to call."""
        ...

    def batch(self, prompts: Sequence[Tokens], answer: int) -> float:
        """Seconds until every prompt, all at once, has its answer of so many tokens."""
        ...


def open_engine(job: Job) -> Engine:
    """The engine's module is imported now."""
    module = import_module(f"intaglio.benchmark.engines.{ENGINES[job.engine][0]}")
    engine: Engine = module.open(job)
    return engine

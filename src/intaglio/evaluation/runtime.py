"""Runtimes: what runs a model while it is measured. Ours for our artifacts, transformers for plain models."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

import intaglio
from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.engine.pages import pages_for
from intaglio.errors import UsageError
from intaglio.lazy import lazy
from intaglio.models import artifact, scheme
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", extra="compress")

Name = Literal["native", "transformers"]


class Seconds(NamedTuple):
    """Of one run: the whole prompt, and each of the tokens after the first."""

    prefill: float
    decode: tuple[float, ...]


class Runtime(Protocol):
    """A model that can be scored and timed."""

    name: Name
    dtype: str
    threads: int
    libraries: tuple[str, ...]  # whose versions matter

    def logits(self, tokens: Array) -> Array:
        """tokens (n,) -> float32 (n, vocab)."""
        ...

    def time(self, prompt: Sequence[int], tokens: int) -> Seconds:
        """Greedy decoding of `tokens` tokens after `prompt`, alone in its batch."""
        ...


def open_runtime(checkpoint: Checkpoint, name: Name | None, threads: int, context: int) -> Runtime:
    """`name` None: native for our artifacts, transformers for the rest."""
    if context > checkpoint.spec.max_position:
        raise UsageError(
            f"{checkpoint.name} has {checkpoint.spec.max_position} positions, {context} are needed:"
            " lower --seq-len"
        )
    if name == "native" or (name is None and artifact.is_artifact(checkpoint.config)):
        return Native(checkpoint, threads, context)
    return Transformers(checkpoint, threads)


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Version of each, and of us."""
    return {"intaglio": intaglio.__version__} | {name: importlib.metadata.version(name) for name in libraries}


class Native:
    """Our executor."""

    name: Name = "native"
    libraries: tuple[str, ...] = ("numpy",)

    def __init__(self, checkpoint: Checkpoint, threads: int, context: int) -> None:
        self._executor = Executor(checkpoint, threads=threads, max_sequences=1, max_context=context)
        self.threads = self._executor.threads
        self.dtype = scheme.summary(checkpoint, self._executor.kv_bits)

    def logits(self, tokens: Array) -> Array:
        return self._executor.logits(tokens)

    def time(self, prompt: Sequence[int], tokens: int) -> Seconds:
        pages = self._executor.pool.allocate(pages_for(len(prompt) + tokens))
        try:
            return self._time(prompt, tokens, pages)
        finally:
            self._executor.pool.free(pages)

    def _time(self, prompt: Sequence[int], tokens: int, pages: list[int]) -> Seconds:
        marks = [time.perf_counter()]
        largest = self._executor.max_tokens
        for start in range(0, len(prompt), largest):
            part = prompt[start : start + largest]
            drawn = self._executor.step([Chunk(part, start, pages, int(start + len(part) == len(prompt)))])
        marks.append(time.perf_counter())
        for position in range(len(prompt), len(prompt) + tokens - 1):
            drawn = self._executor.step([Chunk(drawn, position, pages, draws=1)])
            marks.append(time.perf_counter())
        return _seconds(marks)


class Transformers:
    """The architecture's own module in float32."""

    name: Name = "transformers"
    dtype = "float32"
    libraries: tuple[str, ...] = ("numpy", "torch", "transformers")

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        from intaglio.models.transformers_model import transformers_model

        self.threads = threads
        self._model = transformers_model(checkpoint)

    def logits(self, tokens: Array) -> Array:
        with _torch(self.threads):
            out: Array = self._model(_tensor(tokens), use_cache=False).logits[0].float().numpy()
        return out

    def time(self, prompt: Sequence[int], tokens: int) -> Seconds:
        with _torch(self.threads):
            return self._time(prompt, tokens)

    def _time(self, prompt: Sequence[int], tokens: int) -> Seconds:
        marks = [time.perf_counter()]
        out = self._model(_tensor(prompt), use_cache=True, logits_to_keep=1)
        token = out.logits[0, -1].argmax().item()
        marks.append(time.perf_counter())
        for _ in range(tokens - 1):
            out = self._model(_tensor([token]), past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[0, -1].argmax().item()
            marks.append(time.perf_counter())
        return _seconds(marks)


@contextmanager
def _torch(threads: int) -> Iterator[None]:
    """Without gradients, on so many threads, and afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def _tensor(tokens: Sequence[int] | Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(tokens, np.int64)[None])


def _seconds(marks: Sequence[float]) -> Seconds:
    differences = np.diff(marks).tolist()
    return Seconds(differences[0], tuple(differences[1:]))

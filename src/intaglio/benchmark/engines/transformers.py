"""The architecture's own module in transformers, eager, in float32 or bfloat16."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from intaglio.benchmark.engines import Job, Tokens
from intaglio.lazy import lazy
from intaglio.models import open_checkpoint, scheme

if TYPE_CHECKING:
    import torch
    import transformers
else:
    torch = lazy("torch", extra="peers")
    transformers = lazy("transformers", extra="peers")

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class Transformers:
    """`_cache` holds `_context`, and is cut back to it before every answer."""

    def __init__(self, job: Job) -> None:
        from intaglio.models.transformers_model import transformers_model

        torch.set_num_threads(job.threads)
        checkpoint = open_checkpoint(job.model)
        dtype = getattr(torch, DTYPES[job.format])
        self._model: Any = transformers_model(checkpoint, dtype=dtype)
        self.format = job.format
        self.weight_bytes = scheme.parameters(checkpoint) * dtype.itemsize
        self.kv_bits = 8.0 * dtype.itemsize
        self.vocab = checkpoint.spec.vocab_size
        accepted = inspect.signature(self._model.forward).parameters
        self._keyword = "cache" if "cache" in accepted else "past_key_values"  # renamed in transformers 5
        self._context: Tokens = ()
        self._cache: Any = None
        self._next: Any = None

    def prefill(self, prompt: Tokens) -> float:
        started = time.perf_counter()
        self._step(torch.tensor([prompt]), self._empty())
        return time.perf_counter() - started

    def decode(self, context: Tokens, steps: int) -> float:
        if list(context) != list(self._context):
            self._cache, self._context = self._empty(), context
            self._next = self._step(torch.tensor([context]), self._cache)
        self._cache.crop(len(context) - self._cache.get_seq_length())
        token, started = self._next, time.perf_counter()
        for _ in range(steps):
            token = self._step(token, self._cache)
        return time.perf_counter() - started

    def batch(self, prompts: Sequence[Tokens], answer: int) -> float:
        started, cache = time.perf_counter(), self._empty()
        tokens = self._step(torch.tensor(prompts), cache)
        for _ in range(answer - 1):
            tokens = self._step(tokens, cache)
        return time.perf_counter() - started

    def _empty(self) -> Any:
        return transformers.DynamicCache(config=self._model.config)

    def _step(self, tokens: torch.Tensor, cache: Any) -> torch.Tensor:
        """tokens (streams, n), remembered in `cache` -> the likeliest next ones (streams, 1)."""
        with torch.no_grad():
            out = self._model(tokens, **{self._keyword: cache}, use_cache=True, logits_to_keep=1)
        likeliest: torch.Tensor = out.logits[:, -1].argmax(-1, keepdim=True)
        return likeliest


open = Transformers

"""The architecture's own module in transformers, eager, in float32 or bfloat16."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from intaglio.benchmark.engines import Job, Tokens
from intaglio.lazy import lazy
from intaglio.models import open_checkpoint, scheme

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", extra="peers")

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class Transformers:
    """`_cache` holds `_context`, and is cut back to it before every answer."""

    def __init__(self, job: Job) -> None:
        from intaglio.models.transformers_model import transformers_model

        torch.set_num_threads(job.threads)
        torch.set_grad_enabled(False)
        checkpoint = open_checkpoint(job.model)
        dtype = getattr(torch, DTYPES[job.format])
        self._model: Any = transformers_model(checkpoint, dtype=dtype)
        self.format = job.format
        self.weight_bytes = scheme.parameters(checkpoint) * dtype.itemsize
        self.kv_bits = 8.0 * dtype.itemsize
        self.vocab = checkpoint.spec.vocab_size
        self._context: Tokens = ()
        self._cache: Any = None
        self._next: Any = None

    def prefill(self, prompt: Tokens) -> float:
        started = time.perf_counter()
        self._step(torch.tensor([prompt]), None)
        return time.perf_counter() - started

    def decode(self, context: Tokens, steps: int) -> float:
        if list(context) != list(self._context):
            self._next, self._cache = self._step(torch.tensor([context]), None)
            self._context = context
        else:
            self._cache.crop(len(context))
        token, started = self._next, time.perf_counter()
        for _ in range(steps):
            token, self._cache = self._step(token, self._cache)
        return time.perf_counter() - started

    def batch(self, prompts: Sequence[Tokens], answer: int) -> float:
        started = time.perf_counter()
        tokens, cache = self._step(torch.tensor(prompts), None)
        for _ in range(answer - 1):
            tokens, cache = self._step(tokens, cache)
        return time.perf_counter() - started

    def _step(self, tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """tokens (streams, n) -> the likeliest next ones (streams, 1), and what remembers all of them."""
        out = self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values


open = Transformers

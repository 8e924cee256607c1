"""OpenVINO GenAI: continuous batching on 4-bit weights from a GGUF file, keys and values in 8 bits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.benchmark.engines import Job, Tokens
from intaglio.benchmark.workloads import ANSWER, PROMPT
from intaglio.lazy import lazy
from intaglio.models.gguf import Gguf

if TYPE_CHECKING:
    import openvino
    import openvino_genai
else:
    openvino = lazy("openvino", extra="peers")
    openvino_genai = lazy("openvino_genai", extra="peers")

BLOCK = 32  # tokens in a block of its KV memory on CPUs
LARGEST = 2048  # tokens of a step
FOREVER = 1 << 20


class OpenVino:
    """Its memory cannot be cut back, so contexts are found again through its prefix cache."""

    def __init__(self, job: Job) -> None:
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            job.model,
            _scheduling(job),
            "CPU",
            {"INFERENCE_NUM_THREADS": job.threads, "KV_CACHE_PRECISION": "u8"},
        )
        file = Gguf.open(Path(job.model))
        self.format = job.format
        self.weight_bytes = sum(tensor.nbytes for tensor in file.tensors.values())
        self.kv_bits = 8.0
        self.vocab = file.tensors["token_embd.weight"].shape[0]
        self._ids = itertools.count()

    def prefill(self, prompt: Tokens) -> float:
        started = time.perf_counter()
        request = self._ask(prompt, 1)
        self._run([request])
        return time.perf_counter() - started

    def decode(self, context: Tokens, steps: int) -> float:
        request = self._ask(context, 1 + steps)
        while not request.can_read():
            self._pipeline.step()
        started = time.perf_counter()
        self._run([request])
        return time.perf_counter() - started

    def batch(self, prompts: Sequence[Tokens], answer: int) -> float:
        started = time.perf_counter()
        self._run([self._ask(prompt, answer) for prompt in prompts])
        return time.perf_counter() - started

    def _ask(self, prompt: Tokens, answer: int) -> Any:
        config = openvino_genai.GenerationConfig(max_new_tokens=answer, ignore_eos=True, do_sample=False)
        return self._pipeline.add_request(
            next(self._ids), openvino.Tensor(np.array([prompt], np.int64)), config
        )

    def _run(self, requests: Sequence[Any]) -> None:
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()


def _scheduling(job: Job) -> Any:
    """Room for everything at once, and for one context more that is remembered."""
    config = openvino_genai.SchedulerConfig()
    blocks = job.streams * (-(-(PROMPT + ANSWER) // BLOCK) + 1) + 2 * (job.positions // BLOCK + 2)
    config.num_kv_blocks = blocks
    config.max_num_seqs = max(job.streams, 1)
    config.max_num_batched_tokens = LARGEST
    config.enable_prefix_caching = True
    return config


open = OpenVino

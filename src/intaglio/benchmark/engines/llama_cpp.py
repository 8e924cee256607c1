"""llama.cpp through llama-cpp-python's plain bindings: its own threads, flash attention, one call a step."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.benchmark.engines import Job, Tokens
from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.types import Array

if TYPE_CHECKING:
    import llama_cpp
else:
    llama_cpp = lazy("llama_cpp", extra="peers")

LARGEST = 2048  # tokens of a call; its default, computed 512 at a time
KV = {"f16": 16.0, "q4_0": 4.5}  # bits of a number


class LlamaCpp:
    """One context at a time, sized for the workload as llama-bench does; `_context` is what it remembers."""

    def __init__(self, job: Job) -> None:
        _quiet()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(job.model.encode(), parameters)
        if not self._model:
            raise IntaglioError(f"llama.cpp cannot open {job.model}")
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._job = job
        self._kv = job.kv or "f16"
        self.format = job.format
        self.weight_bytes = int(llama_cpp.llama_model_size(self._model))
        self.kv_bits = KV[self._kv]
        self.vocab = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self._batch = Batch()
        self._llama: Any = None
        self._sized = (0, 0)
        self._context: Tokens = ()
        self._next = [0]

    def prefill(self, prompt: Tokens) -> float:
        self._clear(1, len(prompt))
        started = time.perf_counter()
        self._enter([prompt])
        return time.perf_counter() - started

    def decode(self, context: Tokens, steps: int) -> float:
        if list(context) != list(self._context):
            self._clear(1, len(context) + steps)
            self._next, self._context = self._enter([context]), context
        else:
            memory = llama_cpp.llama_get_memory(self._llama)
            llama_cpp.llama_memory_seq_rm(memory, 0, len(context), -1)
        return self._answer(self._next, len(context), steps)

    def batch(self, prompts: Sequence[Tokens], answer: int) -> float:
        self._clear(len(prompts), len(prompts[0]) + answer)
        started = time.perf_counter()
        drawn = self._enter(prompts)
        self._answer(drawn, len(prompts[0]), answer - 1)
        return time.perf_counter() - started

    def _enter(self, prompts: Sequence[Tokens]) -> list[int]:
        """All prompts, in calls of LARGEST tokens -> the token after each."""
        rows = [(t, i, i + 1 == len(p), s) for s, p in enumerate(prompts) for i, t in enumerate(p)]
        drawn: list[int] = []
        for start in range(0, len(rows), LARGEST):
            drawn += self._decode(np.array(rows[start : start + LARGEST], np.int32))
        return drawn

    def _answer(self, tokens: list[int], position: int, steps: int) -> float:
        """Seconds of `steps` tokens for each stream."""
        started, streams = time.perf_counter(), np.arange(len(tokens), dtype=np.int32)
        for at in range(position, position + steps):
            ones = np.ones_like(streams)
            tokens = self._decode(np.stack([np.array(tokens, np.int32), ones * at, ones, streams], 1))
        return time.perf_counter() - started

    def _decode(self, rows: Array) -> list[int]:
        """rows (n, 4) int32, as `Batch.filled` takes them -> the tokens drawn, in order."""
        if status := llama_cpp.llama_decode(self._llama, self._batch.filled(rows)):
            raise IntaglioError(f"llama.cpp refuses a batch of {len(rows)} tokens (status {status})")
        return [self._likeliest(int(row)) for row in np.flatnonzero(rows[:, 2])]

    def _likeliest(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._llama, row)
        return int(np.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def _clear(self, streams: int, positions: int) -> None:
        """An empty context for so many streams."""
        self._context = ()
        if self._sized == (streams, positions):
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._llama), False)
            return
        if self._llama:
            llama_cpp.llama_free(self._llama)
        self._llama = llama_cpp.llama_init_from_model(self._model, self._parameters(streams, positions))
        if not self._llama:
            raise IntaglioError(f"llama.cpp opens no context of {streams} x {positions} tokens")
        self._sized = (streams, positions)

    def _parameters(self, streams: int, positions: int) -> Any:
        found = llama_cpp.llama_context_default_params()
        found.n_ctx = streams * (-(-positions // 256) * 256)
        found.n_batch, found.n_ubatch = LARGEST, 512
        found.n_seq_max = streams
        found.kv_unified = False
        found.n_threads = found.n_threads_batch = self._job.threads
        found.no_perf = True
        if self._kv == "q4_0":
            found.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED  # a coded V needs it
            found.type_k = found.type_v = llama_cpp.GGML_TYPE_Q4_0
        return found


def quantize(source: Path, target: Path, kind: str, threads: int) -> Path:
    """`target`: the GGUF file `source` in llama.cpp's `kind` (Q4_0, Q4_1, Q4_K_M), by its own quantizer."""
    _quiet()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.nthread = threads
    parameters.allow_requantize = True  # a source that has few bits already
    if llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(parameters)):
        raise IntaglioError(f"llama.cpp cannot quantize {source} to {kind}")
    return target


class Batch:
    """llama.cpp's struct for a call, made once and filled again, so that filling it costs next to nothing."""

    def __init__(self) -> None:
        self._batch = llama_cpp.llama_batch_init(LARGEST, 0, 1)
        fields = (self._batch.token, self._batch.pos, self._batch.logits)
        self._views = [np.ctypeslib.as_array(field, (LARGEST,)) for field in fields]
        np.ctypeslib.as_array(self._batch.n_seq_id, (LARGEST,))[:] = 1

    def filled(self, rows: Array) -> Any:
        """rows (n, 4) int32: token, position, whether a token follows, stream."""
        self._batch.n_tokens = len(rows)
        for view, column in zip(self._views, rows.T, strict=False):
            view[: len(rows)] = column
        for index, stream in enumerate(rows[:, 3].tolist()):
            self._batch.seq_id[index][0] = stream
        return self._batch


_silence: list[Any] = []  # what C still points to must not be collected


def _quiet() -> None:
    """Its log is long, and goes to stderr."""
    if not _silence:
        _silence.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
        llama_cpp.llama_log_set(_silence[0], ctypes.c_void_p(0))


open = LlamaCpp

"""The executor: runs a checkpoint natively, one step at a time, over a fixed memory of KV pages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from intaglio import _native
from intaglio.engine.matrices import Line, pack_all
from intaglio.engine.pages import PagePool, pages_for
from intaglio.engine.program import Program
from intaglio.engine.sampling import GREEDY, Sampling
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array

KV_BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
NOT_FINITE = -2  # a drawn token, where the logits are NaN or infinite


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence that enter in one step, at positions [position, position + len(tokens)).

    `pages` is the sequence's whole block table: page j holds positions [64 j, 64 (j + 1)). `sample`: draw the
    token that follows. `history` are the tokens the repetition penalty counts, usually all of the sequence.
    """

    tokens: Sequence[int] | Array
    position: int
    pages: Sequence[int]
    sample: bool = False
    params: Sampling = GREEDY
    history: Sequence[int] | Array = ()


class Executor:
    """A model ready to run. `max_tokens` bounds a step, `max_context` a sequence, `pages` all of them.

    `kv`: how keys and values are kept; None: as the checkpoint was made for.
    `isa` None: INTAGLIO_ISA or the best. `threads` None: INTAGLIO_THREADS or all.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        threads: int | None = None,
        kv: Literal["fp32", "fp16", "int8", "int4"] | str | None = None,
        max_tokens: int = 512,
        max_sequences: int = 16,
        max_context: int | None = None,
        pages: int | None = None,
        isa: str | None = None,
    ) -> None:
        spec = checkpoint.spec
        self.spec = spec
        self.isa = check_isa(isa)
        self.threads = count_threads(threads)
        self.kv_bits = check_kv(checkpoint, kv)
        self.max_tokens = max_tokens
        self.max_sequences = max_sequences
        self.max_context = _max_context(spec.max_position, max_context)
        self.pool = PagePool(max_sequences * pages_for(self.max_context) if pages is None else pages)
        matrices = pack_all(checkpoint, self.isa, self.threads)
        self.plan: list[Line] = [
            packed.line for packed in {id(p): p for g in matrices.values() for p in g}.values()
        ]
        self._native: _native.Executor | None = _checked(
            _native.Executor,
            isa=self.isa,
            threads=self.threads,
            max_tokens=max_tokens,
            max_sequences=max_sequences,
            max_context=self.max_context,
            pages=self.pool.count,
            vocab=spec.vocab_size,
            layers=spec.num_layers,
            heads=spec.num_heads,
            kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            kv_bits=self.kv_bits,
        )
        Program(self._open(), spec, matrices, checkpoint.vectors)
        self._draws: list[int] = []  # of the last step: chunk -> its draw, or -1

    @property
    def reserved_nbytes(self) -> int:
        """The matrices, which are resident, and buffers and KV pages, which become so when used."""
        return int(self._open().reserved_nbytes) + sum(line.nbytes for line in self.plan)

    @property
    def cache_nbytes(self) -> int:
        """Of these, all KV pages."""
        return int(self._open().cache_nbytes)

    def step(self, batch: Sequence[Chunk]) -> Array:
        """Run all chunks in one native call -> int32 (len(batch),): the token drawn, -1 without `sample`."""
        samples = np.array([chunk.sample for chunk in batch], bool)
        self._draws = []
        drawn = _checked(self._open().step, *_checked(_flatten, batch))
        if (broken := np.flatnonzero(drawn == NOT_FINITE)).size:
            at = int(np.flatnonzero(samples)[broken[0]])
            last = batch[at].position + len(batch[at].tokens) - 1
            raise IntaglioError(
                f"the logits after position {last} of chunk {at} are not finite:"
                " the model's weights are broken or overflow"
            )
        tokens = np.full(len(batch), -1, np.int32)
        tokens[samples] = drawn
        self._draws = np.where(samples, np.cumsum(samples) - 1, -1).tolist()
        return tokens

    def last_logits(self, chunk: int) -> Array:
        """What the last step drew `chunk`'s token from, before penalty and temperature: float32 (vocab,)."""
        return np.asarray(self._open().logits(self._draw(chunk)))

    def logprob(self, chunk: int) -> float:
        """log softmax(last_logits(chunk)) of the token that was drawn."""
        return float(self._open().logprob(self._draw(chunk)))

    def logits(self, tokens: Array | Sequence[int]) -> Array:
        """Score one fresh sequence: tokens (n,) -> float32 (n, vocab); row i predicts token i + 1."""
        ids = np.ascontiguousarray(tokens, np.int32)
        if ids.ndim != 1 or not ids.size:
            raise UsageError(f"logits are asked of a sequence of tokens, got an array of shape {ids.shape}")
        if ids.size > self.max_context:
            raise UsageError(f"{ids.size} tokens exceed max_context, {self.max_context}")
        pages = self.pool.allocate(pages_for(ids.size))
        try:
            return self.extend(ids, 0, pages)
        finally:
            self.pool.free(pages)

    def extend(self, tokens: Array | Sequence[int], position: int, pages: Sequence[int]) -> Array:
        """Score tokens (n,) from `position` on, `pages` hold what precedes them -> float32 (n, vocab)."""
        ids = np.ascontiguousarray(tokens, np.int32)
        out = np.empty((ids.size, self.spec.vocab_size), np.float32)
        for start in range(0, ids.size, self.max_tokens):
            rows = slice(start, min(start + self.max_tokens, ids.size))
            chunk = Chunk(ids[rows], position + start, pages)
            _checked(self._open().score, *_checked(_flatten, [chunk]), out[rows])
        return out

    def read_page(self, page: int, layer: int, head: int, slot: int, is_value: bool) -> Array:
        """The key or value that attention reads there: float32 (head_dim,)."""
        return np.asarray(_checked(self._open().read_page, page, layer, head, slot, is_value))

    def close(self) -> None:
        """Give the memory back; further steps are refused."""
        self._native = None

    def _open(self) -> _native.Executor:
        if self._native is None:
            raise UsageError("this executor was closed; open the model again")
        return self._native

    def _draw(self, chunk: int) -> int:
        if not 0 <= chunk < len(self._draws) or self._draws[chunk] < 0:
            raise UsageError(f"chunk {chunk} of the last step has no logits: only a chunk with `sample` has")
        return self._draws[chunk]


def _flatten(batch: Sequence[Chunk]) -> tuple[Array, ...]:
    """tokens, table, pages, history, settings, seeds: what native/executor.h calls a Request."""
    if not batch:
        raise UsageError("a step needs at least one chunk")
    histories = [c.history if c.sample and c.params.repetition_penalty != 1 else () for c in batch]
    table = [
        (len(c.tokens), c.position, len(c.pages), c.sample, c.params.top_k, len(history))
        for c, history in zip(batch, histories, strict=True)
    ]
    settings = [(p.temperature, p.top_p, p.min_p, p.repetition_penalty) for p in (c.params for c in batch)]
    return (
        _joined([c.tokens for c in batch]),
        np.array(table, np.int32),
        _joined([c.pages for c in batch]),
        _joined(histories),
        np.array(settings, np.float32),
        np.array([c.params.seed for c in batch], np.uint64),
    )


def _joined(parts: Sequence[Sequence[int] | Array]) -> Array:
    return np.concatenate([np.asarray(part, np.int32) for part in parts])


def _checked(call: Any, *arguments: Any, **named: Any) -> Any:
    """Native refusals are sentences for the user."""
    try:
        return call(*arguments, **named)
    except (ValueError, OverflowError) as error:
        raise UsageError(str(error)) from None
    except MemoryError:
        raise IntaglioError("not enough memory: ask for fewer pages (max_context, max_sequences)") from None


def check_isa(asked: str | None) -> str:
    """The instruction set to use, if this build and processor run it."""
    known = _native.isas()
    isa = asked or os.environ.get("INTAGLIO_ISA") or known[0]
    if isa not in known:
        where = "isa" if asked else "INTAGLIO_ISA"
        raise UsageError(f"{where} is {isa!r}; this build and processor run {', '.join(known)}")
    return isa


def count_threads(asked: int | None) -> int:
    """So many, or INTAGLIO_THREADS, or one for each processor we may use."""
    if asked is None and (text := os.environ.get("INTAGLIO_THREADS")):
        if not text.isdecimal() or not 1 <= int(text) <= 1024:
            raise UsageError(f"INTAGLIO_THREADS is {text!r}, expected a number of threads, 1..1024")
        return int(text)
    return len(os.sched_getaffinity(0)) if asked is None else asked


def check_kv(checkpoint: Checkpoint, asked: str | None) -> int:
    """Bits of a key's or value's number; None: as the checkpoint was made for."""
    if asked is None:
        quantization = checkpoint.config.get("quantization_config") or {}
        bits = (quantization.get("cache") or {}).get("bits", 16)
        if bits not in KV_BITS.values():
            raise IntaglioError(f"{checkpoint.name}: cache.bits is {bits!r}, expected 32, 16, 8 or 4")
        return int(bits)
    if asked not in KV_BITS:
        raise UsageError(f"kv is {asked!r}, expected one of {', '.join(KV_BITS)}")
    return KV_BITS[asked]


def _max_context(max_position: int, asked: int | None) -> int:
    if asked is None:
        return min(max_position, 4096)
    if not 1 <= asked <= max_position:
        raise UsageError(f"max_context is {asked}, the model has positions for 1..{max_position} tokens")
    return asked

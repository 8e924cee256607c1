"""The executor: runs a checkpoint natively, one step at a time, over a fixed memory of KV pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from intaglio import _native
from intaglio.engine.chunk import Chunk, flatten
from intaglio.engine.matrices import Line, pack_all
from intaglio.engine.pages import PagePool, pages_for
from intaglio.engine.program import Program
from intaglio.engine.sampling import Logprobs
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array

KV_BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
NOT_FINITE = -2  # a drawn token, where the logits are NaN or infinite


class NotFinite(IntaglioError):  # noqa: N818 - reads as what it says
    """Some of a step's draws had logits that are NaN or infinite; `drawn` has NOT_FINITE in their place."""

    def __init__(self, sentence: str, drawn: Array) -> None:
        super().__init__(sentence)
        self.drawn = drawn


def not_finite(position: int, where: str) -> str:
    return (
        f"the logits after position {position} of {where} are not finite:"
        " the model's weights are broken or overflow"
    )


class Executor:
    """A model ready to run. `max_tokens` bounds a step, `max_context` a sequence, `pages` all of them.

    A step draws at most `1 + max_draft` tokens for each of `max_sequences`.
    `kv`: how keys and values are kept; None: as the checkpoint was made for.
    `isa` None: INTAGLIO_ISA or the best. `threads` None: INTAGLIO_THREADS or all. `pin_threads`: each of our
    own threads (the caller's is not) stays on one processor.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        threads: int | None = None,
        kv: Literal["fp32", "fp16", "int8", "int4"] | str | None = None,
        max_tokens: int = 512,
        max_sequences: int = 16,
        max_draft: int = 0,
        max_context: int | None = None,
        pages: int | None = None,
        isa: str | None = None,
        pin_threads: bool = False,
    ) -> None:
        spec = checkpoint.spec
        self.spec = spec
        self.isa = check_isa(isa)
        self.threads = count_threads(threads)
        self.kv_bits = check_kv(checkpoint, kv)
        self.max_tokens = max_tokens
        self.max_sequences = max_sequences
        self.max_draft = max_draft
        self.max_context = _max_context(spec.max_position, max_context)
        self.pool = PagePool(max_sequences * pages_for(self.max_context) if pages is None else pages)
        matrices = pack_all(checkpoint, self.isa, self.threads)
        self.plan: list[Line] = [
            line
            for packed in {id(p): p for g in matrices.values() for p in g}.values()
            for line in packed.lines
        ]
        self._native: _native.Executor | None = _checked(
            _native.Executor,
            isa=self.isa,
            threads=self.threads,
            max_tokens=max_tokens,
            max_sequences=max_sequences,
            max_draws=min(max_tokens, max_sequences * (1 + max_draft)),
            max_context=self.max_context,
            pages=self.pool.count,
            vocab=spec.vocab_size,
            layers=spec.num_layers,
            heads=spec.num_heads,
            kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            kv_bits=self.kv_bits,
            pin_threads=pin_threads,
        )
        Program(self._open(), spec, matrices, checkpoint.vectors)
        self._last: Sequence[Chunk] = ()  # step's chunks,
        self._first: list[int] = []  # where the draws of each begin, and the end

    @property
    def reserved_nbytes(self) -> int:
        """The matrices, which are resident, and buffers and KV pages, which become so when used."""
        return int(self._open().reserved_nbytes) + sum(line.nbytes for line in self.plan)

    @property
    def cache_nbytes(self) -> int:
        """Of these, all KV pages."""
        return int(self._open().cache_nbytes)

    def step(self, batch: Sequence[Chunk]) -> Array:
        """Run all chunks in one native call -> int32 (draws,): the tokens drawn, chunk by chunk.

        NotFinite has them too, where some could not be drawn.
        """
        self._last, self._first = (), []
        drawn = np.asarray(_checked(self._open().step, _checked(flatten, batch, self.spec.vocab_size)))
        self._last, self._first = batch, [0, *np.cumsum([chunk.draws for chunk in batch]).tolist()]
        if (drawn == NOT_FINITE).any():
            self._check_finite(batch, drawn)
        return drawn

    def last_logits(self, chunk: int, draw: int = 0) -> Array:
        """What the last step's `draw` of `chunk` was taken from, before all settings: float32 (vocab,)."""
        return np.asarray(self._open().logits(self._row(chunk, draw)))

    def logprobs(self, chunk: int, draw: int = 0) -> Logprobs:
        """Of the last step's `draw` of `chunk`, as many as that asked for."""
        row, n = self._row(chunk, draw), self._last[chunk].logprobs
        if n is None:
            raise UsageError(f"chunk {chunk} of the last step did not ask for log probabilities")
        logprob, rank, tokens, logprobs = _checked(self._open().logprobs, row, n)
        return Logprobs(logprob, rank, tuple(tokens.tolist()), tuple(logprobs.tolist()))

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
        return self._rows(self._open().score, self.spec.vocab_size, tokens, position, pages)

    def hidden(self, tokens: Array | Sequence[int], position: int, pages: Sequence[int]) -> Array:
        """What the head reads of tokens (n,) from `position` on: the last state after the final norm.

        `pages` hold what precedes them -> float32 (n, hidden). Where a rotation was undone before the head
        this is the model's own state; where it was folded into the head, the rotated one without gain.
        """
        return self._rows(self._open().hidden_rows, self.spec.hidden_size, tokens, position, pages)

    def _rows(
        self,
        call: Callable[[tuple[Array, ...], Array], None],
        width: int,
        tokens: Array | Sequence[int],
        position: int,
        pages: Sequence[int],
    ) -> Array:
        """What `call` fills for each token, as many a step as fit: float32 (n, width)."""
        ids = np.ascontiguousarray(tokens, np.int32)
        out = np.empty((ids.size, width), np.float32)
        for start in range(0, ids.size, self.max_tokens):
            rows = slice(start, min(start + self.max_tokens, ids.size))
            chunk = Chunk(ids[rows], position + start, pages)
            _checked(call, _checked(flatten, [chunk], self.spec.vocab_size), out[rows])
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

    def _row(self, chunk: int, draw: int) -> int:
        if not 0 <= chunk < len(self._last):
            raise UsageError(f"chunk {chunk} has no logits: the last step had {len(self._last)} chunks")
        first, end = self._first[chunk : chunk + 2]
        if not 0 <= draw < end - first:
            raise UsageError(f"draw {draw} of chunk {chunk} has no logits: only what it `draws` has")
        return first + draw

    def _check_finite(self, batch: Sequence[Chunk], drawn: Array) -> None:
        """Logits after a wrong draft are nobody's."""
        for at, chunk in enumerate(batch):
            own = chunk.accept(drawn[self._first[at] : self._first[at + 1]])
            if NOT_FINITE in own:
                raise NotFinite(not_finite(chunk.place(own.index(NOT_FINITE)), f"chunk {at}"), drawn)


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


def pages_within(checkpoint: Checkpoint, kv: str | None, nbytes: int) -> int:
    """KV pages of a model that take at most `nbytes`; `kv` as for the executor."""
    spec, bits = checkpoint.spec, check_kv(checkpoint, kv)
    layer = -(-_native.Pages(spec.num_kv_heads, spec.head_dim, bits, 1).page_bytes // 64) * 64
    page = 2 * spec.num_layers * layer
    if nbytes < page:
        raise UsageError(f"{nbytes} bytes of KV memory hold no page of {checkpoint.name}: it takes {page}")
    return nbytes // page


def _max_context(max_position: int, asked: int | None) -> int:
    if asked is None:
        return min(max_position, 4096)
    if not 1 <= asked <= max_position:
        raise UsageError(f"max_context is {asked}, the model has positions for 1..{max_position} tokens")
    return asked

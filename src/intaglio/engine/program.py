"""The program: which ops a model runs, over which buffers. Built once; a step runs it as one native call.

Buffers hold one row a token. What linears read is zero-padded and kept as float32, as int8 with scales and
group sums, or as both, whatever the matrices that read it want; once for each way they read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from intaglio import _native
from intaglio.engine.matrices import Packed
from intaglio.errors import IntaglioError
from intaglio.formats import Largest
from intaglio.formats.rounding import Rounding, rounding_of
from intaglio.models import roles
from intaglio.models.spec import ModelSpec
from intaglio.terms import Reading
from intaglio.types import Array

Columns: TypeAlias = tuple[int, int, int]  # buffer, first column, width
Inputs: TypeAlias = Mapping[Reading, Columns]  # where matrices find what they read
Write: TypeAlias = Callable[[Columns, int], None]  # an op that fills these columns for a reading
ACTIVATIONS = {"silu": 0, "gelu_tanh": 1, "gelu": 2}
ABSENT = -1  # no bias, no gain, nothing done to what is read; as eps: no norm, only the copy
LOGITS = -1  # as buffer: the step's logits
TOKENS, WANTED, GATHERED = range(
    3
)  # rows an op walks: all tokens, those whose logits are wanted, from all to those


class Program:
    """Adds a model's buffers and ops to a native executor.

    `matrices` are keyed by what they read: "3.attention_in" and the like, "embedding", "embed_proj",
    "head_proj", "head".
    """

    def __init__(
        self,
        native: _native.Executor,
        spec: ModelSpec,
        matrices: Mapping[str, Sequence[Packed]],
        vectors: Mapping[str, Array],
    ) -> None:
        self._native = native
        self._spec = spec
        self._matrices = matrices
        self._vectors = vectors
        self._scratch: dict[
            tuple[int, bool, bool], Columns
        ] = {}  # between factors; two in a row never share one
        self._inputs: dict[Hashable, Columns] = {}  # what linears read, shared by layers that want it alike
        self._readings: dict[Hashable, int] = {}
        self._ids: dict[int, int] = {}  # of a native matrix, so that a tied head is not added twice
        self._ropes = [native.add_rope(list(rope.inv_freq), rope.scale) for rope in spec.ropes]
        self._add_buffers()
        self._embed()
        for layer in range(spec.num_layers):
            self._attention(layer)
            self._mlp(layer)
        self._head()

    def _add_buffers(self) -> None:
        spec = self._spec
        hidden, inner = spec.hidden_size, spec.intermediate_size
        heads, shared = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        self._residual, self._wanted = self._floats(hidden), self._floats(hidden)
        self._delta = self._floats(hidden, local=True) if spec.post_norm else None
        self._q, self._k, self._v = _side_by_side(self._floats(heads + 2 * shared), heads, shared, shared)
        self._gate, self._up = _side_by_side(self._floats(2 * inner, local=True), inner, inner)
        self._attended = self._floats(heads)

    def _embed(self) -> None:
        (embedding,) = self._matrices["embedding"]
        matrix, scale, order = self._matrix(embedding), self._spec.embed_scale, embedding.reader.reading.order
        stored = Reading() if order is None else Reading(order=order.argsort().astype(order.dtype))
        if "embed_proj" not in self._matrices:
            reading = self._reading(stored, self._spec.hidden_size)
            self._native.embed(matrix, self._residual, reading, scale)
            return

        def write(target: Columns, reading: int) -> None:
            if reading == ABSENT:
                reading = self._reading(stored, target[2])
            elif order is not None:
                raise IntaglioError(
                    f"{roles.EMBED_PROJ} reads rounded numbers of {roles.EMBEDDING}, which has an order: "
                    "one of the two can be run, not both"
                )
            self._native.embed(matrix, target, reading, 1.0)

        rows = self._read("embed_proj", write)
        self._linear("embed_proj", rows, [self._residual], alpha=scale)

    def _attention(self, layer: int) -> None:
        spec, settings = self._spec, self._spec.layers[layer]
        gain = self._pre_norm(layer, "pre_attention_norm")
        normed = self._normed(f"{layer}.attention_in", self._residual, gain, TOKENS)
        self._linear(f"{layer}.attention_in", normed, [self._q, self._k, self._v])
        gains = self._qk_gains(layer)
        rope = self._ropes[settings.rope]
        self._native.append(layer, rope, self._q, self._k, self._v, *gains, spec.norm_eps)
        self._native.attend(
            layer,
            self._q,
            self._attended,
            settings.window or 0,
            spec.attention_scale,
            spec.attention_softcap or 0.0,
        )
        last = self._is_last(layer)
        if last:  # what follows its attention is wanted of few tokens
            self._native.norm(self._residual, self._wanted, ABSENT, ABSENT, ABSENT, GATHERED)
        attended = self._normed(f"{layer}.o_in", self._attended, None, GATHERED if last else TOKENS)
        self._onto_residual(layer, "o_in", attended, "post_attention_norm")

    def _qk_gains(self, layer: int) -> tuple[int, int]:
        """Gains of q and k per head; a norm over the whole projection is an op of its own."""
        if self._spec.qk_norm is None:
            return ABSENT, ABSENT
        q, k = (self._gain(roles.site(layer, name)) for name in ("q_norm", "k_norm"))
        if self._spec.qk_norm == "head":
            return q, k
        for columns, gain in ((self._q, q), (self._k, k)):
            self._native.norm(columns, columns, ABSENT, gain, self._spec.norm_eps, TOKENS)
        return ABSENT, ABSENT

    def _mlp(self, layer: int) -> None:
        residual, rows = self._stream(layer)
        normed = self._normed(f"{layer}.mlp_in", residual, self._pre_norm(layer, "pre_mlp_norm"), rows)
        self._linear(f"{layer}.mlp_in", normed, [self._gate, self._up], rows=rows)
        activation = ACTIVATIONS[self._spec.activation]
        gated = self._read(
            f"{layer}.down_in",
            lambda to, how: self._native.gate(self._gate, self._up, to, how, activation, rows),
        )
        self._onto_residual(layer, "down_in", gated, "post_mlp_norm")

    def _head(self) -> None:
        spec = self._spec
        gain = self._gain(roles.FINAL_NORM)
        hidden = self._wanted, gain, spec.norm_eps, WANTED
        first = "head_proj" if "head_proj" in self._matrices else "head"
        head_in = self._read(
            first, lambda to, how: self._native.norm(self._wanted, to, how, gain, spec.norm_eps, WANTED)
        )
        if first == "head_proj":
            projected = self._floats(spec.hidden_size)
            self._linear("head_proj", head_in, [projected], rows=WANTED)
            hidden = projected, ABSENT, ABSENT, WANTED
            head_in = self._read(
                "head", lambda to, how: self._native.norm(projected, to, how, ABSENT, ABSENT, WANTED)
            )
        self._native.hidden(*hidden)
        logits = (LOGITS, 0, spec.vocab_size)
        self._linear("head", head_in, [logits], alpha=spec.logit_scale, rows=WANTED)
        if spec.logit_softcap:
            self._native.softcap(spec.logit_softcap)
        self._native.sample()

    def _onto_residual(self, layer: int, point: str, source: Inputs, post_norm: str) -> None:
        """residual += residual_scale * post_norm?(matrix source)"""
        alpha, (residual, rows) = self._spec.residual_scale, self._stream(layer)
        if self._delta is None:
            self._linear(f"{layer}.{point}", source, [residual], alpha=alpha, accumulate=True, rows=rows)
            return
        self._linear(f"{layer}.{point}", source, [self._delta], rows=rows)
        gain = self._gain(roles.site(layer, post_norm))
        self._native.add_norm(self._delta, residual, gain, self._spec.norm_eps, alpha, rows)

    def _is_last(self, layer: int) -> bool:
        return layer == self._spec.num_layers - 1

    def _stream(self, layer: int) -> tuple[Columns, int]:
        """The residual stream after this layer's attention, and the rows it has."""
        return (self._wanted, WANTED) if self._is_last(layer) else (self._residual, TOKENS)

    def _normed(self, key: str, source: Columns, gain: int | None, rows: int) -> Inputs:
        """What the matrices of `key` read of norm(source), or of `source` itself without gain."""
        given, eps = (ABSENT, ABSENT) if gain is None else (gain, self._spec.norm_eps)

        def write(target: Columns, reading: int) -> None:
            self._native.norm(source, target, reading, given, eps, rows)

        return self._read(key, write, source if gain is None and rows != GATHERED else None)

    def _read(self, key: str, write: Write, same_as: Columns | None = None) -> Inputs:
        """Where the matrices of `key` find their input: `write` fills columns for each way they read it.

        `same_as`: columns that hold the input already, for those who read its floats as they are.
        """
        readers: dict[Reading, list[Packed]] = {}
        for packed in self._matrices[key]:
            readers.setdefault(packed.reader.reading, []).append(packed.reader)
        found: dict[Reading, Columns] = {}
        for i, (reading, each) in enumerate(readers.items()):
            if same_as is not None and reading == Reading():
                found[reading] = same_as
                continue
            found[reading] = self._input(key.split(".")[-1], i, each)
            write(found[reading], self._reading(reading, found[reading][2]))
        return found

    def _linear(
        self,
        key: str,
        source: Inputs,
        targets: Sequence[Columns],
        *,
        alpha: float = 1.0,
        accumulate: bool = False,
        rows: int = TOKENS,
    ) -> None:
        """The matrices of `key`, each into as many neighbouring targets as it has sites."""
        for packed in self._matrices[key]:
            mine = targets[packed.first : packed.first + len(packed.sites)]
            target = (mine[0][0], mine[0][1], sum(width for _, _, width in mine))
            bias = ABSENT if packed.bias is None else self._native.add_vector(packed.bias)
            read = self._source(packed, source, rows)
            adds = accumulate or packed.adds
            self._native.linear(self._matrix(packed), read[0], target, bias, alpha, adds, rows)

    def _source(self, packed: Packed, source: Inputs, rows: int) -> Columns:
        """What a matrix reads: the input, or what the factor before it makes of that."""
        if packed.inner is None:
            return source[packed.reading]
        return self._between(packed.inner, source, rows)

    def _between(self, packed: Packed, source: Inputs, rows: int) -> Columns:
        """What a factor that is not a term's last makes of `source`."""
        read = self._source(packed, source, rows)
        width = packed.matrix.rows
        key = width, packed.inner is None, rows == TOKENS
        if key not in self._scratch:
            self._scratch[key] = self._floats(width, local=rows == TOKENS)
        target = self._scratch[key]
        self._native.linear(self._matrix(packed), read[0], target, ABSENT, 1.0, False, rows)
        return target

    def _matrix(self, packed: Packed) -> int:
        key = id(packed.matrix)
        if key not in self._ids:
            self._ids[key] = self._native.add_matrix(packed.matrix)
        return self._ids[key]

    def _pre_norm(self, layer: int, name: str) -> int | None:
        return self._gain(roles.site(layer, name)) if self._spec.pre_norm else None

    def _gain(self, name: str) -> int:
        return self._native.add_vector(np.ascontiguousarray(self._vectors[name], np.float32))

    def _floats(self, width: int, *, local: bool = False) -> Columns:
        return self._native.add_buffer(width, True, 0, local), 0, width

    def _input(self, point: str, place: int, readers: Sequence[Packed]) -> Columns:
        """A buffer for the `place`th way of reading at `point`, in the form that these matrices want."""
        integer = [packed for packed in readers if packed.reads_int8]
        floats, grain = len(integer) < len(readers), math.gcd(*(packed.matrix.group for packed in integer))
        scales, width = any(packed.reads_groups for packed in integer), readers[0].matrix.cols
        key = (point, place, floats, grain, scales)
        if key not in self._inputs:
            local = point not in ("head", "head_proj")  # these hold the wanted rows
            self._inputs[key] = self._native.add_buffer(width, floats, grain, local, scales), 0, width
        return self._inputs[key]

    def _reading(self, reading: Reading, width: int) -> int:
        if reading == Reading():
            return ABSENT
        key = reading, width
        if key not in self._readings:
            self._readings[key] = self._native.add_reading(*_native_reading(reading, width))
        return self._readings[key]


def _native_reading(reading: Reading, width: int) -> tuple[Rounding | None, Array | None, int, int]:
    """How groups are rounded, the order, and how many are kept of how many, as native/ops.h has it."""
    match reading.activation:
        case None:
            return None, reading.order, 0, 0
        case Largest(n=n, m=m):
            return None, reading.order, n, m
        case grid:
            return rounding_of(grid, width), reading.order, 0, 0


def _side_by_side(buffer: Columns, *widths: int) -> list[Columns]:
    starts = [sum(widths[:i]) for i in range(len(widths))]
    return [(buffer[0], start, width) for start, width in zip(starts, widths, strict=True)]

"""The program: which ops a model runs, over which buffers. Built once; a step runs it as one native call.

Buffers hold one row a token. What linears read is zero-padded and kept as float32, as int8 with scale and
group sums, or as both: whatever the matrices that read it want, in any layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from intaglio import _native
from intaglio.engine.matrices import Packed
from intaglio.errors import IntaglioError
from intaglio.models import roles
from intaglio.models.spec import ModelSpec
from intaglio.types import Array

Columns: TypeAlias = tuple[int, int, int]  # buffer, first column, width
ACTIVATIONS = {"silu": 0, "gelu_tanh": 1, "gelu": 2}
ABSENT = -1  # no bias, no gain; as eps: no norm, only the copy
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
        self._residual = self._floats(hidden)
        self._delta = self._floats(hidden, local=True) if spec.post_norm else None
        self._q, self._k, self._v = _side_by_side(self._floats(heads + 2 * shared), heads, shared, shared)
        self._gate, self._up = _side_by_side(self._floats(2 * inner, local=True), inner, inner)
        self._attended = self._floats(heads)
        bare = None if spec.pre_norm else self._residual
        self._attention_in = self._input("attention_in", hidden, same_as=bare)
        self._o_in = self._input("o_in", heads, same_as=self._attended)
        self._mlp_in = self._input("mlp_in", hidden, same_as=bare)
        self._down_in = self._input("down_in", inner)

    def _embed(self) -> None:
        (embedding,) = self._matrices["embedding"]
        matrix, scale = self._matrix(embedding), self._spec.embed_scale
        if "embed_proj" not in self._matrices:
            self._native.embed(matrix, self._residual, 0, scale)
            return
        rows = self._input("embed_proj", self._spec.hidden_size)
        self._native.embed(matrix, rows, self._rounding("embed_proj"), 1.0)
        self._linear("embed_proj", rows, [self._residual], alpha=scale)

    def _attention(self, layer: int) -> None:
        spec, settings = self._spec, self._spec.layers[layer]
        gain = self._pre_norm(layer, "pre_attention_norm")
        self._into(f"{layer}.attention_in", self._residual, self._attention_in, gain)
        self._linear(f"{layer}.attention_in", self._attention_in, [self._q, self._k, self._v])
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
        self._into(f"{layer}.o_in", self._attended, self._o_in, None)
        self._onto_residual(layer, "o_in", self._o_in, "post_attention_norm")

    def _qk_gains(self, layer: int) -> tuple[int, int]:
        """Gains of q and k per head; a norm over the whole projection is an op of its own."""
        if self._spec.qk_norm is None:
            return ABSENT, ABSENT
        q, k = (self._gain(roles.site(layer, name)) for name in ("q_norm", "k_norm"))
        if self._spec.qk_norm == "head":
            return q, k
        for columns, gain in ((self._q, q), (self._k, k)):
            self._native.norm(columns, columns, 0, gain, self._spec.norm_eps, TOKENS)
        return ABSENT, ABSENT

    def _mlp(self, layer: int) -> None:
        self._into(f"{layer}.mlp_in", self._residual, self._mlp_in, self._pre_norm(layer, "pre_mlp_norm"))
        self._linear(f"{layer}.mlp_in", self._mlp_in, [self._gate, self._up])
        bits, activation = self._rounding(f"{layer}.down_in"), ACTIVATIONS[self._spec.activation]
        self._native.gate(self._gate, self._up, self._down_in, bits, activation)
        self._onto_residual(layer, "down_in", self._down_in, "post_mlp_norm")

    def _head(self) -> None:
        spec = self._spec
        head_in, bits = self._input("head", spec.hidden_size), self._rounding("head")
        gain = self._gain(roles.FINAL_NORM)
        if "head_proj" in self._matrices:
            normed, projected = self._input("head_proj", spec.hidden_size), self._floats(spec.hidden_size)
            self._native.norm(
                self._residual, normed, self._rounding("head_proj"), gain, spec.norm_eps, GATHERED
            )
            self._linear("head_proj", normed, [projected], rows=WANTED)
            self._native.norm(projected, head_in, bits, ABSENT, ABSENT, WANTED)
        else:
            self._native.norm(self._residual, head_in, bits, gain, spec.norm_eps, GATHERED)
        logits = (LOGITS, 0, spec.vocab_size)
        self._linear("head", head_in, [logits], alpha=spec.logit_scale, rows=WANTED)
        if spec.logit_softcap:
            self._native.softcap(spec.logit_softcap)
        self._native.sample()

    def _onto_residual(self, layer: int, point: str, source: Columns, post_norm: str) -> None:
        """residual += residual_scale * post_norm?(matrix source)"""
        alpha = self._spec.residual_scale
        if self._delta is None:
            self._linear(f"{layer}.{point}", source, [self._residual], alpha=alpha, accumulate=True)
            return
        self._linear(f"{layer}.{point}", source, [self._delta])
        gain = self._gain(roles.site(layer, post_norm))
        self._native.add_norm(self._delta, self._residual, gain, self._spec.norm_eps, alpha)

    def _into(self, key: str, source: Columns, target: Columns, gain: int | None) -> None:
        """target = norm(source), or a copy without gain; nothing where linears read the source itself."""
        if target != source:
            given, eps = (ABSENT, ABSENT) if gain is None else (gain, self._spec.norm_eps)
            self._native.norm(source, target, self._rounding(key), given, eps, TOKENS)

    def _linear(
        self,
        key: str,
        source: Columns,
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
            read = source if packed.inner is None else self._between(packed.inner, source, rows)
            adds = accumulate or packed.adds
            self._native.linear(self._matrix(packed), read[0], target, bias, alpha, adds, rows)

    def _between(self, packed: Packed, source: Columns, rows: int) -> Columns:
        """What a factor that is not a term's last makes of `source`."""
        read = source if packed.inner is None else self._between(packed.inner, source, rows)
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

    def _rounding(self, key: str) -> int:
        """What becomes of the floats that the matrices of `key` read, as native/ops.h has it; 0: nothing."""
        found = {packed.reader.rounding for packed in self._matrices[key] if not packed.reader.reads_int8}
        if len(found) > 1 and max(found) > 8:
            raise IntaglioError(f"{key}: matrices of one input must all read it thinned to the same n of m")
        return max(found, default=0)

    def _pre_norm(self, layer: int, name: str) -> int | None:
        return self._gain(roles.site(layer, name)) if self._spec.pre_norm else None

    def _gain(self, name: str) -> int:
        return self._native.add_vector(np.ascontiguousarray(self._vectors[name], np.float32))

    def _floats(self, width: int, *, local: bool = False) -> Columns:
        return self._native.add_buffer(width, True, 0, local), 0, width

    def _input(self, point: str, width: int, same_as: Columns | None = None) -> Columns:
        """What the matrices of `point` read; `same_as`, if its floats are all they want."""
        groups_ = (group for key, group in self._matrices.items() if key.split(".")[-1] == point)
        readers = [packed.reader for group in groups_ for packed in group]
        groups = [p.matrix.group for p in readers if p.reads_int8]
        if same_as is not None and not groups and not any(p.rounding for p in readers):
            return same_as
        floats = len(groups) < len(readers)
        local = point not in ("head", "head_proj")  # these hold the wanted rows
        return self._native.add_buffer(width, floats, math.gcd(*groups), local), 0, width


def _side_by_side(buffer: Columns, *widths: int) -> list[Columns]:
    starts = [sum(widths[:i]) for i in range(len(widths))]
    return [(buffer[0], start, width) for start, width in zip(starts, widths, strict=True)]

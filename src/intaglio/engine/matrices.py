"""Matrices: a checkpoint's linears as the executor reads them: packed, those of one input fused."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeAlias

import numpy as np

from intaglio import _native
from intaglio.kernels import cpu
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.mapped import release
from intaglio.terms import Coded
from intaglio.types import Array


@dataclass(frozen=True)
class Line:
    """One row of the plan: these sites run as one matrix by this kernel; why each better one declined.

    `reads`: "int8", "float", or "float of 8 bits" where the matrix was made for codes of 8 bits but its
    kernel multiplies floats: these are rounded to the same numbers, without the speed of integers.
    """

    sites: tuple[str, ...]
    kernel: str
    reads: str
    isa: str
    nbytes: int
    declined: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Packed:
    """Matrices of one input stacked by rows; `bias` float32 (rows,) where any of them has one.

    `round_bits`: the kernel reads floats, but the matrices were made for inputs rounded to so many bits.
    """

    matrix: _native.Matrix
    bias: Array | None
    reads_int8: bool
    round_bits: int
    line: Line

    @property
    def sites(self) -> tuple[str, ...]:
        return self.line.sites


Matrices: TypeAlias = dict[str, list[Packed]]


def pack_all(checkpoint: Checkpoint, isa: str, threads: int) -> Matrices:
    """Everything the program multiplies by, keyed by what it reads; sources are read one by one."""

    def packed(*names: str) -> list[Packed]:
        return _pack(checkpoint, names, isa, threads)

    matrices: Matrices = {"embedding": packed(roles.EMBEDDING)}
    for key, name in (("embed_proj", roles.EMBED_PROJ), ("head_proj", roles.HEAD_PROJ), ("head", roles.HEAD)):
        if name in checkpoint.linears:
            matrices[key] = packed(name)
    matrices.setdefault("head", matrices["embedding"])
    for layer in range(checkpoint.spec.num_layers):
        for point, members in roles.INPUTS.items():
            matrices[f"{layer}.{point}"] = packed(*(roles.site(layer, role) for role in members))
    return matrices


class _Part(NamedTuple):
    name: str
    operand: cpu.Operand
    choice: cpu.Choice
    bias: Array | None

    @property
    def stacks_with(self) -> Hashable:
        return self.choice.kernel, self.operand.formats, self.operand.activation


def _pack(checkpoint: Checkpoint, names: Sequence[str], isa: str, threads: int) -> list[Packed]:
    """The matrices of one input, neighbours of one kernel, format and activation as one."""
    parts = [_part(name, checkpoint.linears[name]) for name in names]
    return [_stack(list(run), isa, threads) for _, run in groupby(parts, lambda part: part.stacks_with)]


def _part(name: str, coded: Coded) -> _Part:
    states = tuple(coded.term_state(i) for i in range(len(coded.terms)))
    operand = cpu.Operand(coded.shape, tuple(term.format for term in coded.terms), states, coded.activation)
    return _Part(name, operand, cpu.choose(operand), coded.bias)


def _stack(parts: Sequence[_Part], isa: str, threads: int) -> Packed:
    choice, activation = parts[0].choice, parts[0].operand.activation
    matrix = cpu.pack([part.operand for part in parts], choice, isa=isa, threads=threads)
    for array in (array for part in parts for state in part.operand.states for array in state.values()):
        release(array)  # or the model would be resident twice
    declined = tuple(dict.fromkeys(reason for part in parts for reason in part.choice.declined))
    round_bits = 0 if activation is None or choice.reads_int8 else activation.bits
    reads = "int8" if choice.reads_int8 else f"float of {round_bits} bits" if round_bits else "float"
    line = Line(tuple(part.name for part in parts), choice.kernel, reads, isa, matrix.nbytes, declined)
    return Packed(matrix, _bias(parts), choice.reads_int8, round_bits, line)


def _bias(parts: Sequence[_Part]) -> Array | None:
    """The biases side by side, zeros for those without; None when none has one."""
    if all(part.bias is None for part in parts):
        return None
    each = [np.zeros(p.operand.shape[0], np.float32) if p.bias is None else p.bias for p in parts]
    return np.concatenate(each).astype(np.float32)

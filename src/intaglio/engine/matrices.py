"""Matrices: a checkpoint's linears as the executor reads them, those of one input fused, packed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np

from intaglio import _native
from intaglio.engine import standin_cpu as cpu
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded
from intaglio.types import Array


@dataclass(frozen=True)
class Line:
    """One row of the plan: these sites run as one matrix by this kernel; why better ones declined."""

    sites: tuple[str, ...]
    kernel: str
    isa: str
    nbytes: int
    declined: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Packed:
    """Matrices of one input stacked by rows; `bias` float32 (rows,) where any of them has one."""

    sites: tuple[str, ...]
    matrix: _native.Matrix
    bias: Array | None
    reads_int8: bool
    line: Line


Matrices: TypeAlias = dict[str, list[Packed]]


def pack_all(checkpoint: Checkpoint, isa: str, threads: int) -> Matrices:
    """Everything the program multiplies by, keyed by what it reads; the sources are read and let go one by one."""

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


def _pack(checkpoint: Checkpoint, names: Sequence[str], isa: str, threads: int) -> list[Packed]:
    """The matrices of one input, neighbours that the same kernel can run as one."""
    coded = [(name, checkpoint.linears[name]) for name in names]
    chosen = [(name, c, cpu.choose(c)) for name, c in coded]
    return [
        _stack(list(run), isa, threads)
        for _, run in groupby(chosen, lambda each: (each[2].kind, each[2].part[1], each[1].activation))
    ]


def _stack(run: Sequence[tuple[str, Coded, cpu.Choice]], isa: str, threads: int) -> Packed:
    names, coded, choices = zip(*run, strict=True)
    kind = choices[0].kind
    matrix = _native.Matrix(kind, coded[0].shape[1], [c.part for c in choices], isa, threads)
    declined = tuple(dict.fromkeys(reason for c in choices for reason in c.declined))
    line = Line(names, cpu.KINDS[kind], isa, matrix.nbytes, declined)
    return Packed(names, matrix, _bias(coded), kind >= 5, line)


def _bias(coded: Sequence[Coded]) -> Array | None:
    """The biases side by side, zeros for those without; None when none has one."""
    if all(c.bias is None for c in coded):
        return None
    parts = [np.zeros(c.shape[0], np.float32) if c.bias is None else c.bias for c in coded]
    return np.concatenate(parts).astype(np.float32)

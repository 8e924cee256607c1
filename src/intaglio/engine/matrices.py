"""Matrices: a checkpoint's linears as the executor reads them: packed, those of one input fused."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import NamedTuple, TypeAlias

import numpy as np

from intaglio import _native
from intaglio.formats import Activation, Largest
from intaglio.kernels import cpu
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.mapped import release
from intaglio.terms import Coded, Reading
from intaglio.types import Array


@dataclass(frozen=True)
class Line:
    """One row of the plan: these sites run as one matrix by this kernel; why each better one declined.

    `part`: which factor of which term, where a matrix has several, as in "1 low_rank.left".
    `reads`: "int8", "float", "float, 4 of 8" of an input thinned to that, or "float of 8 bits" where the
    matrix was made for codes of 8 bits but its kernel multiplies floats: these are rounded to the same
    numbers, without the speed of integers.
    """

    sites: tuple[str, ...]
    kernel: str
    reads: str
    isa: str
    nbytes: int
    declined: tuple[tuple[str, str], ...]
    part: str = ""


@dataclass(frozen=True, eq=False)
class Packed:
    """Matrices of one input stacked by rows; `bias` float32 (rows,) where any of them has one.

    `first`: the place of its first site among those of the input. `adds`: to what earlier terms gave.
    `inner`: what is applied before it, of a term of several factors. `reading`: what they make of the input.
    Where that is rounded and the kernel reads floats, these are rounded to the same numbers.
    """

    matrix: _native.Matrix
    bias: Array | None
    reads_int8: bool
    reads_groups: bool
    reading: Reading
    line: Line
    first: int = 0
    adds: bool = False
    inner: Packed | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        return self.line.sites

    @property
    def reader(self) -> Packed:
        """The factor that reads the input itself."""
        return self if self.inner is None else self.inner.reader

    @property
    def lines(self) -> tuple[Line, ...]:
        """Of its factors, in the order of execution."""
        return (self.line,) if self.inner is None else (*self.inner.lines, self.line)


Matrices: TypeAlias = dict[str, list[Packed]]


def pack_all(checkpoint: Checkpoint, isa: str, threads: int) -> Matrices:
    """Everything the program multiplies by, keyed by what it reads; sources are read one by one."""

    def packed(*names: str) -> list[Packed]:
        return pack(checkpoint.linears, names, isa, threads)

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
    """One term of one site: its factors as operands, what will run them, what it is called in the plan."""

    name: str
    place: int
    factors: tuple[cpu.Operand, ...]
    choices: tuple[cpu.Choice, ...]
    labels: tuple[str, ...]
    bias: Array | None
    reading: Reading

    @property
    def stacks_with(self) -> Hashable:
        """Neighbours for which this is the same run as one matrix: the input meets the same arrays."""
        *inner, last = self.factors
        if not cpu.stacks(last, self.choices[-1]):
            return self.place
        same = tuple(_address(array) for factor in inner for array in factor.state.values())
        return same, self.choices[-1].kernel, last.layout, last.shape[1], self.reading


def pack(linears: Mapping[str, Coded], names: Sequence[str], isa: str, threads: int) -> list[Packed]:
    """The matrices of one input, term by term: neighbours of one kernel, format and activation as one."""
    sites = [_parts(name, place, linears[name]) for place, name in enumerate(names)]
    packed = []
    for term, parts in enumerate(zip_longest(*sites)):
        runs = groupby(parts, lambda part: part and part.stacks_with)  # None: a site of fewer terms
        present = [[part for part in run if part] for _, run in runs]
        packed += [_stack(run, term > 0, isa, threads) for run in present if run]
    return packed


def _parts(name: str, place: int, coded: Coded) -> list[_Part]:
    parts = []
    for i, term in enumerate(coded.terms):
        state, factors = coded.term_state(i), term.factors(coded.shape)
        readers = (coded.activation, *(None for _ in factors[1:]))
        operands = [
            cpu.Operand(f.shape, f.layout, f.state(state), a) for f, a in zip(factors, readers, strict=True)
        ]
        tag = f"{i} {term.__struct_config__.tag}" if len(coded.terms) > 1 or len(factors) > 1 else ""
        labels = tuple(f"{tag}.{factor.name}" if factor.name else tag for factor in factors)
        choices = tuple(map(cpu.choose, operands))
        bias = coded.bias if i == 0 else None
        parts.append(_Part(name, place, tuple(operands), choices, labels, bias, coded.reading))
    return parts


def _stack(parts: Sequence[_Part], adds: bool, isa: str, threads: int) -> Packed:
    inner: Packed | None = None
    for i in range(len(parts[0].factors)):
        last = i == len(parts[0].factors) - 1
        found = _stack_factor(parts, i, isa, threads)
        bias = _bias(parts) if last else None
        inner = replace(found, bias=bias, first=parts[0].place, adds=adds and last, inner=inner)
    assert inner is not None
    return inner


def _stack_factor(parts: Sequence[_Part], i: int, isa: str, threads: int) -> Packed:
    own = parts if i == len(parts[0].factors) - 1 else parts[:1]  # before the last all have the same
    operands, choice = [part.factors[i] for part in own], parts[0].choices[i]
    matrix = cpu.pack(operands, choice, isa=isa, threads=threads)
    for array in (array for operand in operands for array in operand.state.values()):
        release(array)  # or the model would be resident twice
    declined = tuple(dict.fromkeys(reason for part in parts for reason in part.choices[i].declined))
    reading = parts[0].reading if i == 0 else Reading()
    reads = "int8" if choice.reads_int8 else _reads(reading.activation)
    sites = tuple(part.name for part in parts)
    line = Line(sites, choice.kernel, reads, isa, matrix.nbytes, declined, parts[0].labels[i])
    return Packed(matrix, None, choice.reads_int8, choice.reads_groups, reading, line)


def _address(array: Array) -> Hashable:
    return array.__array_interface__["data"][0], array.shape, array.dtype.str, array.strides


def _reads(activation: Activation | None) -> str:
    if activation is None:
        return "float"
    if isinstance(activation, Largest):
        return f"float, {activation.n} of {activation.m}"
    return f"float of {activation.bits} bits"


def _bias(parts: Sequence[_Part]) -> Array | None:
    """The biases side by side, zeros for those without; None when none has one."""
    if all(part.bias is None for part in parts):
        return None
    each = [np.zeros(p.factors[-1].shape[0], np.float32) if p.bias is None else p.bias for p in parts]
    return np.concatenate(each).astype(np.float32)

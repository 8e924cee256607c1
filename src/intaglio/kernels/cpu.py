"""Which native kernel runs a coded matrix, and why better ones declined.   Used by: the engine, explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from intaglio import _native
from intaglio.formats import (
    NM,
    Activation,
    Bilevel,
    Bitmask,
    BlockDiagonal,
    Bsr,
    Csr,
    Floating,
    Format,
    Integer,
    Layout,
    Lookup,
    Mixed,
    SparseRows,
    Structure,
    Trits,
    TwoLevel,
)
from intaglio.kernels import groups, pieces
from intaglio.types import Array, State

# As in native/kernels.h
F32, F16, BF16, W2, W3, W4, W8, W8A8, W4A8, W4A8_TWO, W4A8_GROUP = range(11)
CSR, LOOKUP, BSR4, BSR16, EVEN_ROWS, BLOCK_DIAGONAL, NM16, NM8 = range(11, 19)
BILEVEL3, BILEVEL4, BITMASK, TRITS, GROUPS = range(19, 24)
PLAIN = {"float32": F32, "float16": F16, "bfloat16": BF16}

# bits, group, codes, scale, zero, group_scale: what `_native.Matrix` and `_native.decode` take of one matrix
Part: TypeAlias = tuple[int, int, Array, Array | None, Array | None, Array | None]


@dataclass(frozen=True)
class Operand:
    """One stored matrix as kernels see it: its layout and arrays, the format of its input."""

    shape: tuple[int, int]
    layout: Layout
    state: State
    activation: Activation | None = None


@dataclass(frozen=True)
class Choice:
    """The kernel of a matrix, and (name, sentence) of each better one that declined."""

    kernel: str
    kind: int
    declined: tuple[tuple[str, str], ...] = ()

    @property
    def reads_int8(self) -> bool:
        """Whether its input is quantized to int8."""
        return W8A8 <= self.kind <= W4A8_GROUP or self.reads_groups

    @property
    def reads_groups(self) -> bool:
        """Whether its input has a scale for each group, not one a token."""
        return self.kind == GROUPS


def _coded(m: Operand, bits: range, *, int8: bool) -> Integer | TwoLevel | str:
    """The one integer format of m if kernels of these bits and this input can stream it, or why not."""
    form = m.layout
    if isinstance(form, Floating):
        return f"runs integer codes, got {form.dtype}"
    if not isinstance(form, Integer | TwoLevel):
        return f"runs integer codes, got {_name(form)}"
    if form.bits not in bits:
        some = f"{bits[0]} to {bits[-1]}" if len(bits) > 1 else bits[0]
        return f"runs codes of {some} bits, got {form.bits}"
    if int8 and m.activation is None:
        return "reads int8 activations, got float ones"
    if int8 and m.activation != Integer(bits=8, symmetric=True):
        return f"reads symmetric int8 activations with one scale a token, got {m.activation}"
    if int8 and isinstance(form, Integer) and form.zero == "float16":
        return "runs whole zero points, got float16 ones"
    return _unfit(m, form.group_size, bits[-1]) or form


def _unfit(m: Operand, group_size: int | None, bits: int) -> str | None:
    """Why groups do not begin and end where a kernel of so many bits can: native/kernels.h, fits_groups."""
    whole, half = {2: 16, 3: 32}.get(bits, 8), bits == 3
    if (
        group_size is None
        or group_size >= m.shape[1]
        or group_size % whole == 0
        or (half and group_size == 16)
    ):
        return None
    return f"needs groups of {'16 or ' if half else ''}a multiple of {whole} columns, got {group_size}"


def _two_level(m: Operand) -> str | None:
    form = _coded(m, range(2, 5), int8=True)
    if isinstance(form, Integer):
        return "runs two-level scales, got one level"
    return form if isinstance(form, str) else None


def _one_level(m: Operand, bits: range, *, grouped: bool) -> Integer | str:
    form = _coded(m, bits, int8=True)
    if isinstance(form, TwoLevel):
        return "runs one-level scales, got two levels"
    if isinstance(form, Integer) and grouped != _is_grouped(m, form):
        return (
            "runs scales of groups, got one a row"
            if grouped
            else f"runs one scale a row, got groups of {form.group_size}"
        )
    return form


def _is_grouped(m: Operand, form: Integer) -> bool:
    return form.group_size is not None and form.group_size < m.shape[1]


def _row_w4a8(m: Operand) -> str | None:
    form = _one_level(m, range(2, 5), grouped=False)
    return form if isinstance(form, str) else None


def _row_w8a8(m: Operand) -> str | None:
    form = _one_level(m, range(8, 9), grouped=False)
    if isinstance(form, Integer):
        return None if form.symmetric else "runs symmetric codes, got zero points"
    return form


def _group_w4a8(m: Operand) -> str | None:
    form = _one_level(m, range(2, 5), grouped=True)
    return form if isinstance(form, str) else None


def _weights_only(bits: range) -> Callable[[Operand], str | None]:
    def declines(m: Operand) -> str | None:
        form = _coded(m, bits, int8=False)
        if isinstance(form, TwoLevel):
            return "runs one-level scales, got two levels"
        return form if isinstance(form, str) else None

    return declines


def _plain(dtype: str) -> Callable[[Operand], str | None]:
    def declines(m: Operand) -> str | None:
        form = m.layout
        if isinstance(form, Floating):
            return None if form.dtype == dtype else f"runs {dtype}, got {form.dtype}"
        if isinstance(form, Integer | TwoLevel):
            return f"runs {dtype}, got codes of {form.bits} bits"
        return f"runs {dtype}, got {_name(form)}"

    return declines


def _only(layout: type[Layout]) -> Callable[[Operand], str | None]:
    """Of a kernel that runs every matrix of this layout."""

    def declines(m: Operand) -> str | None:
        if isinstance(m.layout, layout):
            return None
        return f"runs {_name(layout)}, got {_name(m.layout)}"

    return declines


def _blocks(coded: bool) -> Callable[[Operand], str | None]:
    """Of kept blocks whose codes, or values, are multiplied as they lie."""

    def declines(m: Operand) -> str | None:
        if not isinstance(m.layout, Bsr):
            return f"runs bsr, got {_name(m.layout)}"
        if m.layout.group_size not in (16, 32, 64):
            return f"runs groups of 16, 32 or 64 columns, got {m.layout.group_size}"
        if m.layout.blocks(m.shape[1]) > 1 << 16:
            return f"numbers the groups of a row in 16 bits, got {m.layout.blocks(m.shape[1])}"
        if coded:
            return None if m.layout.bits <= 4 else f"runs codes of 2 to 4 bits, got {m.layout.bits}"
        return None if m.layout.bits == 16 else f"runs float16, got codes of {m.layout.bits} bits"

    return declines


def _few(layout: type[Csr | SparseRows]) -> Callable[[Operand], str | None]:
    """A nonzero costs them twice the bytes of one behind a bitmask, and many times its instructions."""

    def declines(m: Operand) -> str | None:
        if reason := _only(layout)(m):
            return reason
        share = _share(m)
        return None if share <= 0.125 else f"runs an eighth of a matrix or less, got {share:.0%}"

    return declines


def _share(m: Operand) -> float:
    """Of a matrix, that is not zero."""
    if isinstance(m.layout, SparseRows):
        _, width, nonzeros = m.layout.sizes(m.shape[1])
        return nonzeros / width
    return len(m.state["value"]) / (m.shape[0] * m.shape[1])


def _masked(m: Operand) -> str | None:
    return (
        None if isinstance(m.layout, Bitmask | Csr | SparseRows) else f"runs bitmask, got {_name(m.layout)}"
    )


def _nm(value: str) -> Callable[[Operand], str | None]:
    def declines(m: Operand) -> str | None:
        if not isinstance(m.layout, NM):
            return f"runs nm, got {_name(m.layout)}"
        return None if m.layout.value == value else f"runs {value} values, got {m.layout.value}"

    return declines


def _bilevel(bits: int) -> Callable[[Operand], str | None]:
    def declines(m: Operand) -> str | None:
        form = m.layout
        if not isinstance(form, Bilevel):
            return f"runs bilevel, got {_name(form)}"
        if form.bits > bits:
            return f"runs codes of up to {bits} bits, got {form.bits}"
        if form.rows != pieces.RUN:
            return f"needs runs of {pieces.RUN} rows, got {form.rows}"
        if max(form.scale_bits, form.zero_bits) > 4:
            return f"runs statistics of up to 4 bits, got {form.scale_bits} and {form.zero_bits}"
        return _unfit(m, form.group_size, bits)

    return declines


def _name(layout: Layout | type[Layout]) -> str:
    return str(layout.__struct_config__.tag)


@dataclass(frozen=True)
class Candidate:
    """A kernel: its name, the native kind, and why it declines a matrix (None: it runs it)."""

    name: str
    kind: int
    declines: Callable[[Operand], str | None]


# Best first. The last runs everything, so a new term runs on the day it is written.
CANDIDATES = (
    Candidate("w4a8-two-level", W4A8_TWO, _two_level),
    Candidate("w4a8", W4A8, _row_w4a8),
    Candidate("w8a8", W8A8, _row_w8a8),
    Candidate("groups", GROUPS, groups.declines),
    Candidate("w4a8-group", W4A8_GROUP, _group_w4a8),
    Candidate("w2", W2, _weights_only(range(2, 3))),
    Candidate("w3", W3, _weights_only(range(2, 4))),
    Candidate("w4", W4, _weights_only(range(2, 5))),
    Candidate("w8", W8, _weights_only(range(5, 9))),
    Candidate("float16", F16, _plain("float16")),
    Candidate("bfloat16", BF16, _plain("bfloat16")),
    Candidate("float32", F32, _plain("float32")),
    Candidate("csr", CSR, _few(Csr)),
    Candidate("even-rows", EVEN_ROWS, _few(SparseRows)),
    Candidate("bitmask", BITMASK, _masked),
    Candidate("lookup", LOOKUP, _only(Lookup)),
    Candidate("bsr4", BSR4, _blocks(coded=True)),
    Candidate("bsr16", BSR16, _blocks(coded=False)),
    Candidate("block-diagonal", BLOCK_DIAGONAL, _only(BlockDiagonal)),
    Candidate("nm", NM16, _nm("float16")),
    Candidate("nm-int8", NM8, _nm("int8")),
    Candidate("bilevel3", BILEVEL3, _bilevel(3)),
    Candidate("bilevel4", BILEVEL4, _bilevel(4)),
    Candidate("trits", TRITS, _only(Trits)),
    Candidate("decode-then-matmul", F32, lambda m: None),
)


def choose(m: Operand) -> Choice:
    """The first candidate that does not decline."""
    declined: list[tuple[str, str]] = []
    for candidate in CANDIDATES:
        sentence = candidate.declines(m)
        if sentence is None:
            return Choice(candidate.name, candidate.kind, tuple(declined))
        declined.append((candidate.name, sentence))
    raise AssertionError("the last candidate never declines")


def part(m: Operand, choice: Choice) -> Part:
    """The arrays of m in the layout that the chosen kernel packs from."""
    if choice.kernel == "decode-then-matmul":
        return _plain_part(decode(m))
    assert isinstance(m.layout, Format)
    return _part(m.layout, m.state, m.shape[1])


def stacks(m: Operand, choice: Choice) -> bool:
    """Whether rows of another such matrix may follow: not behind a run not full."""
    return choice.kind not in (BILEVEL3, BILEVEL4) or m.shape[0] % pieces.RUN == 0


def pack(operands: Sequence[Operand], choice: Choice, *, isa: str = "", threads: int = 1) -> _native.Matrix:
    """Matrices that chose the same kernel, of as many columns, stacked by rows; see `stacks`."""
    first = operands[0]
    if choice.kind >= CSR:
        laid = [_laid(m, choice) for m in operands]
        each = [pieces.pieces(*one, m.shape) for one, m in zip(laid, operands, strict=True)]
        arrays, group = pieces.stacked(laid[0][0], each)
        rows = sum(m.shape[0] for m in operands)
        return _native.structured(choice.kind, rows, first.shape[1], group, arrays, isa)
    return _native.Matrix(choice.kind, first.shape[1], [part(m, choice) for m in operands], isa, threads)


def _laid(m: Operand, choice: Choice) -> tuple[Layout, State]:
    """As the kernel takes it: rows that are rather full get a bitmask."""
    if choice.kind == BITMASK and not isinstance(m.layout, Bitmask):
        return Bitmask(), Bitmask().store(decode(m))
    return m.layout, m.state


def decode(m: Operand) -> Array:
    """float32 (out, in)."""
    if isinstance(m.layout, Mixed):
        return _decode_mixed(m.layout, m)
    if isinstance(m.layout, Bilevel | Structure):
        return m.layout.values(m.state, m.shape)
    return _native.decode(_decode_kind(m.layout), m.shape[1], _part(m.layout, m.state, m.shape[1]))


def _decode_mixed(form: Mixed, m: Operand) -> Array:
    """Groups of few bits and those kept, side by side."""
    scale = np.repeat(m.state["scale"], form.rows, 0)[: m.shape[0]]
    split, few = form.split(m.shape[1]), form.few(m.shape[1])
    parts = []
    for name, bits, cols, at in (
        ("codes", form.bits, split, slice(few)),
        ("kept", form.kept_bits, m.shape[1] - split, slice(few, None)),
    ):
        if cols:
            one = Integer(bits, symmetric=True, group_size=form.group_size)
            state = {"codes": m.state[name], "scale": scale[:, at]}
            parts.append(_native.decode(_decode_kind(one), cols, _part(one, state, cols)))
    return np.concatenate(parts, 1)


def _decode_kind(form: Format) -> int:
    if isinstance(form, Floating):
        return PLAIN[form.dtype]
    if isinstance(form, TwoLevel):
        return W4A8_TWO
    return W4 if form.bits <= 4 else W8


def _plain_part(value: Array) -> Part:
    value = np.ascontiguousarray(value)
    return (0, value.shape[1], value.view(np.uint8).reshape(len(value), -1), None, None, None)


def _part(form: Format, state: State, cols: int) -> Part:
    if isinstance(form, Floating):
        return _plain_part(state["value"])
    group = cols if form.group_size is None else min(form.group_size, cols)
    codes, scale = (
        np.ascontiguousarray(state["codes"]),
        np.ascontiguousarray(state["scale"], dtype=np.float32),
    )
    if isinstance(form, TwoLevel):
        return (
            form.bits,
            group,
            codes,
            scale,
            _contiguous(state["group_zero"]),
            _contiguous(state["group_scale"]),
        )
    zero = _contiguous(state.get("zero"))
    if zero is not None and zero.dtype == np.float16:
        zero = zero.view(np.uint16)
    return (form.bits, group, codes, scale, zero, None)


def _contiguous(a: Array | None) -> Array | None:
    return None if a is None else np.ascontiguousarray(a)

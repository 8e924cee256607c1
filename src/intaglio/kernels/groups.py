"""Groups: symmetric codes of 4 and 8 bits for activations with a scale a group, see native/isa/groups.h."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from intaglio.formats import Floating, Integer, Mixed
from intaglio.types import Array

if TYPE_CHECKING:
    from intaglio.kernels.cpu import Operand


def declines(m: Operand) -> str | None:
    """Why the kernel does not run m, or None."""
    form, reads, cols = m.layout, m.activation, m.shape[1]
    if not isinstance(form, Mixed | Integer) or not form.group_size:
        name = form.dtype if isinstance(form, Floating) else form.__struct_config__.tag
        return f"runs integer codes in groups, got {name}"
    if isinstance(form, Integer) and not form.symmetric:
        return "runs symmetric codes, got zero points"
    if form.bits not in (4, 8):
        return f"runs codes of 4 and 8 bits, got {form.bits}"
    if isinstance(form, Mixed) and form.kept and form.kept_bits != 8:
        return f"runs kept codes of 8 bits, got {form.kept_bits}"
    if form.group_size % 8 and form.group_size < cols:
        return f"needs groups of a multiple of 8 columns, got {form.group_size}"
    if not isinstance(reads, Integer | Mixed) or not reads.group_size:
        found = "one a token" if isinstance(reads, Integer) else "float ones"
        return f"reads activations with a scale a group, got {found}"
    if min(reads.group_size, cols) != min(form.group_size, cols):
        return f"reads activations in the groups of the weights, {form.group_size}, got {reads.group_size}"
    return None


def arrays(operands: Sequence[Operand]) -> tuple[int, list[Array]]:
    """Columns of a group; codes of 4 bits, of 8 bits, and scales, of all rows of matrices of one format."""
    first = operands[0]
    assert isinstance(first.layout, Mixed | Integer)
    each = [_arrays(m) for m in operands]
    stacked = [np.ascontiguousarray(np.concatenate(one)).reshape(-1) for one in zip(*each, strict=True)]
    return min(first.layout.group_size or first.shape[1], first.shape[1]), stacked


def _arrays(m: Operand) -> tuple[Array, Array, Array]:
    none = np.empty((m.shape[0], 0), np.uint8)
    codes, kept, scale = m.state.get("codes", none), m.state.get("kept", none), m.state["scale"]
    assert isinstance(m.layout, Mixed | Integer)
    if isinstance(m.layout, Mixed):
        scale = np.repeat(scale, m.layout.rows, 0)[: m.shape[0]]
    return (none, np.hstack([codes, kept]), scale) if m.layout.bits == 8 else (codes, kept, scale)

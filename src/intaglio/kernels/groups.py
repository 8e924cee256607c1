"""Groups: symmetric codes of 4, 6 and 8 bits for activations with a scale a group: native/isa/groups.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats import Floating, Integer, Mixed
from intaglio.kernels.pieces import GROUPS_BITS

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
    widths = [form.bits, form.kept_bits] if isinstance(form, Mixed) and form.kept else [form.bits]
    if not set(widths) <= set(GROUPS_BITS) or widths != sorted(widths):
        return f"runs codes of 4, then 6, then 8 bits, got {', then '.join(map(str, widths))}"
    grain = 16 if 6 in widths else 8
    if form.group_size % grain and form.group_size < cols:
        return f"needs groups of a multiple of {grain} columns, got {form.group_size}"
    if not isinstance(reads, Integer | Mixed) or not reads.group_size:
        found = "one a token" if isinstance(reads, Integer) else "float ones"
        return f"reads activations with a scale a group, got {found}"
    if min(reads.group_size, cols) != min(form.group_size, cols):
        return f"reads activations in the groups of the weights, {form.group_size}, got {reads.group_size}"
    return None

"""Groups: symmetric codes of 4 and 8 bits for activations with a scale a group, see native/isa/groups.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats import Floating, Integer, Mixed

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

"""Rounding: what an input becomes at run time, each token by itself and each group of its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from intaglio.formats.groups import count
from intaglio.formats.integer import Integer
from intaglio.formats.largest import Largest
from intaglio.formats.mixed import Mixed
from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.formats import Activation
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Rounding(NamedTuple):
    """Symmetric codes of `bits` in groups of `size` channels; the last `kept` of `kept_bits`, not clipped."""

    size: int
    bits: int
    kept: int = 0
    kept_bits: int = 8
    clip: float = 1.0


def rounding_of(activation: Integer | Mixed, cols: int) -> Rounding:
    """What an activation format means for an input of so many channels."""
    size = min(activation.group_size or cols, cols)
    if isinstance(activation, Integer):
        return Rounding(size, activation.bits)
    kept = min(activation.kept, count(cols, size))
    return Rounding(size, activation.bits, kept, activation.kept_bits, activation.clip)


def keep_largest(x: Tensor, n: int, m: int) -> Tensor:
    """Of every m of x (..., cols) the n largest in size, of equal ones the first; the rest 0."""
    sizes = torch.nn.functional.pad(x.abs(), (0, -x.shape[-1] % m), value=-1)
    sizes = sizes.reshape(*x.shape[:-1], -1, m)
    chosen = torch.sort(sizes, dim=-1, descending=True, stable=True).indices[..., :n]
    kept = torch.zeros_like(sizes).scatter_(-1, chosen, 1).flatten(-2)[..., : x.shape[-1]]
    return x * kept


def rounded(x: Tensor, activation: Activation) -> Tensor:
    """x (..., n) on the grid of its format: of each group x ~ q * s in float32, with m its largest magnitude,

    top = 2^(bits-1) - 1,  s = clip * m / top,  q = round(x * top / (clip * m)) within -top - 1 .. top

    or, of 8 bits, -127 .. 127; or thinned to the largest. Scales are not rounded to float16: they are made
    and used in one step.
    """
    if isinstance(activation, Largest):
        return keep_largest(x, activation.n, activation.m)
    flat = x.reshape(-1, x.shape[-1])
    r = rounding_of(activation, flat.shape[1])
    groups = -(-flat.shape[1] // r.size)
    parts = torch.nn.functional.pad(flat, (0, groups * r.size - flat.shape[1])).reshape(-1, groups, r.size)
    few, kept = parts[:, : groups - r.kept], parts[:, groups - r.kept :]
    both = torch.cat([_on_grid(few, r.bits, r.clip), _on_grid(kept, r.kept_bits, 1.0)], 1)
    return both.reshape(len(flat), -1)[:, : flat.shape[1]].reshape(x.shape)


def _on_grid(x: Tensor, bits: int, clip: float) -> Tensor:
    """x (tokens, groups, size), each group on its own symmetric grid."""
    top = (1 << (bits - 1)) - 1
    reach = x.abs().amax(-1, keepdim=True) * clip
    codes = (x * (top / torch.where(reach == 0, 1.0, reach))).round()
    return codes.clamp(-127 if bits == 8 else -top - 1, top) * (reach / top)

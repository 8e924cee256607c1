"""What every number format must do."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio.formats import Bilevel, Floating, Format, Integer, Mixed, TwoLevel

EXAMPLES: list[Format] = [
    Integer(4, group_size=64),
    Integer(4),
    Integer(3, group_size=32),
    Integer(2, group_size=7),
    Integer(5, symmetric=True, group_size=16),
    Integer(8, symmetric=True),
    Integer(8, group_size=1),
    Integer(3, group_size=64, zero="float16"),
    Integer(4, group_size=7, zero="float16"),
    Integer(6, zero="float16"),
    TwoLevel(4, group_size=64),
    TwoLevel(3, group_size=32),
    TwoLevel(2, group_size=5),
    Bilevel(),
    Bilevel(4, group_size=5, scale_bits=8, zero_bits=1, rows=2),
    Mixed(4, group_size=64),
    Mixed(4, group_size=16, kept=2, clip=0.85, rows=2),
    Mixed(3, group_size=5, kept=0),
    Mixed(8, group_size=32, kept=0),
    Floating("float32"),
    Floating("float16"),
    Floating("bfloat16"),
]
SHAPES = [(1, 1), (3, 7), (5, 64), (17, 65), (2, 131)]


def code(fmt: Format, w: Tensor) -> Tensor:
    tables = fmt.fit(w)
    return fmt.decode(fmt.encode(w, tables), tables)


def keeps_shape(fmt: Format, w: Tensor) -> None:
    decoded = code(fmt, w)
    assert decoded.shape == w.shape
    assert decoded.dtype == torch.float32
    assert bool(decoded.isfinite().all())


def is_deterministic(fmt: Format, w: Tensor) -> None:
    before = w.clone()
    assert torch.equal(code(fmt, w), code(fmt, w))
    assert torch.equal(w, before)


def is_a_projection(fmt: Format, w: Tensor) -> None:
    tables = fmt.fit(w)
    codes = fmt.encode(w, tables)
    assert torch.equal(fmt.encode(fmt.decode(codes, tables), tables), codes)


def moves_bits_only(fmt: Format, w: Tensor) -> None:
    tables = fmt.fit(w)
    codes = fmt.encode(w, tables)
    again, stored = fmt.unpack(fmt.pack(codes, tables), (w.shape[0], w.shape[1]))
    assert torch.equal(again, codes)
    assert stored.keys() == tables.keys()
    assert all(torch.equal(stored[name], tables[name]) for name in tables)


def stores_what_it_declares(fmt: Format, w: Tensor) -> None:
    tables = fmt.fit(w)
    state = fmt.pack(fmt.encode(w, tables), tables)
    declared = fmt.arrays((w.shape[0], w.shape[1]))
    assert {name: (a.dtype, a.shape) for name, a in state.items()} == declared
    assert fmt.faults(state) is None


def counts_its_bits(fmt: Format, w: Tensor) -> None:
    tables = fmt.fit(w)
    state = fmt.pack(fmt.encode(w, tables), tables)
    assert fmt.nbits((w.shape[0], w.shape[1])) == 8 * sum(a.nbytes for a in state.values())


def reads_mapped_files(fmt: Format, w: Tensor) -> None:
    tables = fmt.fit(w)
    state = fmt.pack(fmt.encode(w, tables), tables)
    frozen = {name: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for name, a in state.items()}
    shape = (w.shape[0], w.shape[1])
    assert torch.equal(fmt.decode(*fmt.unpack(frozen, shape)), fmt.decode(*fmt.unpack(state, shape)))


def codes_zeros_as_zeros(fmt: Format, w: Tensor) -> None:
    assert bool((code(fmt, torch.zeros_like(w)) == 0).all())


def takes_any_magnitude(fmt: Format, w: Tensor) -> None:
    for factor in (1e-6, 1e-3, 1e3):
        scaled = w * factor
        assert float((code(fmt, scaled) - scaled).norm()) <= 0.6 * float(scaled.norm()) + 1e-6


def survives_yaml(fmt: Format, w: Tensor) -> None:
    assert msgspec.yaml.decode(msgspec.yaml.encode(fmt), type=Format) == fmt
    assert msgspec.json.decode(msgspec.json.encode(fmt), type=Format) == fmt


CHECKS = [
    keeps_shape,
    is_deterministic,
    is_a_projection,
    moves_bits_only,
    stores_what_it_declares,
    counts_its_bits,
    reads_mapped_files,
    codes_zeros_as_zeros,
    takes_any_magnitude,
    survives_yaml,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fmt", EXAMPLES, ids=repr)
def test_format(fmt: Format, shape: tuple[int, int], check: Callable[[Format, Tensor], None]) -> None:
    check(fmt, torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))))


def test_unknown_fields_and_ranges_are_refused_with_their_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"`int` <= 8 - at `\$\.bits`"):
        msgspec.yaml.decode(b"{type: int, bits: 9}", type=Format)
    with pytest.raises(msgspec.ValidationError, match="unknown field `bit`"):
        msgspec.yaml.decode(b"{type: two_level, bit: 4}", type=Format)

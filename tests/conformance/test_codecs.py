"""What every codec of keys and values must do."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import torch
from torch import Tensor

from intaglio.attention import Affine, Codec, Half

EXAMPLES: list[Codec] = [Affine(4), Affine(8), Half()]
SHAPES = [(1,), (2, 3, 5, 64), (7, 33), (0, 8)]


def keeps_shape(codec: Codec, x: Tensor) -> None:
    assert codec.roundtrip(x).shape == x.shape
    assert codec.roundtrip(x).dtype == torch.float32


def is_deterministic(codec: Codec, x: Tensor) -> None:
    before = x.clone()
    assert torch.equal(codec.roundtrip(x), codec.roundtrip(x))
    assert torch.equal(x, before)


def is_close(codec: Codec, x: Tensor) -> None:
    steps = {4: 15, 8: 255, 16: 2048}[codec.bits]
    if x.numel():
        assert float((codec.roundtrip(x) - x).abs().max()) <= 1.1 * float(x.max() - x.min()) / steps + 1e-2


def counts_its_bits(codec: Codec, x: Tensor) -> None:
    vectors = x.numel() // x.shape[-1]
    bits = {"code": codec.bits}
    stored = sum(t.numel() * bits.get(n, 16) for n, t in codec.encode(x).items())
    assert codec.nbits(x.shape[-1]) * vectors == stored


def treats_each_vector_alone(codec: Codec, x: Tensor) -> None:
    if x.ndim > 1 and len(x):
        assert torch.equal(codec.roundtrip(x)[0], codec.roundtrip(x[0]))


def shows_broken_values(codec: Codec, x: Tensor) -> None:
    if x.numel():
        for value in (torch.nan, torch.inf):
            broken = x.clone()
            broken.view(-1)[0] = value
            read = codec.roundtrip(broken).view(-1, x.shape[-1])[0]
            assert not bool((read if isinstance(codec, Affine) else read[:1]).isfinite().any())


def survives_yaml(codec: Codec, x: Tensor) -> None:
    assert msgspec.yaml.decode(msgspec.yaml.encode(codec), type=Codec) == codec


CHECKS = [
    keeps_shape,
    is_deterministic,
    is_close,
    counts_its_bits,
    treats_each_vector_alone,
    shows_broken_values,
    survives_yaml,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("codec", EXAMPLES, ids=repr)
def test_codec(codec: Codec, shape: tuple[int, ...], check: Callable[[Codec, Tensor], None]) -> None:
    check(codec, torch.randn(shape, generator=torch.Generator().manual_seed(0)))

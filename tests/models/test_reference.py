"""The definition of how a compressed model is executed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from intaglio.attention import Affine, Half
from intaglio.formats import Integer
from intaglio.models import reference, roles, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.reference import by_point, round_tokens, rounding
from tests.models.tiny import ARCHITECTURES, tiny_checkpoint, tokens

INT8 = Integer(bits=8, symmetric=True)


def reading(checkpoint: Checkpoint, activation: Integer | None, only: str = "") -> Checkpoint:
    """The same model whose linears, those with `only` in their name, round what they read."""
    changed = {
        name: dataclasses.replace(coded, activation=activation)
        for name, coded in checkpoint.linears.items()
        if only in name and "embed" not in name
    }
    return checkpoint.replace(linears=changed)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_rounding_shows_and_stays_small(case: str) -> None:
    plain, ids = tiny_checkpoint(case), tokens(33)
    exact = transformer.forward(plain, ids)
    assert torch.equal(reference.forward(plain, ids), exact)
    assert 1e-5 < distance(reference.forward(reading(plain, INT8), ids), exact) < 0.1
    assert distance(reference.forward(plain, ids, kv=Half()), exact) < 5e-3
    eight = distance(reference.forward(plain, ids, kv=Affine(bits=8)), exact)
    four = distance(reference.forward(plain, ids, kv=Affine(bits=4)), exact)
    assert 1e-5 < eight < 0.1
    assert four > eight


def test_every_reader_s_rounding_is_seen() -> None:
    plain, ids = tiny_checkpoint("llama"), tokens(17)
    exact = transformer.forward(plain, ids)
    for only in ("o_proj", "down_proj", "lm_head"):
        assert distance(reference.forward(reading(plain, INT8, only), ids), exact) > 1e-5, only


@pytest.mark.parametrize(("only", "others"), [("k_proj", ("q_proj", "v_proj")), ("gate_proj", ("up_proj",))])
def test_readers_of_one_input_may_differ(only: str, others: tuple[str, ...]) -> None:
    plain, ids = tiny_checkpoint("llama"), tokens(17)
    exact = transformer.forward(plain, ids)
    alone = reference.forward(reading(plain, INT8, only), ids)
    rest = plain
    for other in others:
        rest = reading(rest, INT8, other)
    assert distance(alone, exact) > 1e-5
    assert not torch.equal(alone, reference.forward(rest, ids))
    together = reference.forward(reading(rest, INT8, only), ids)
    assert not torch.equal(together, alone)


def test_readers_that_agree_are_rounded_once() -> None:
    agreed = dict.fromkeys(roles.LINEARS, INT8)
    assert set(by_point(agreed)) == set(roles.INPUTS)
    assert set(by_point(agreed | {"k": None})) == {"q", "k", "v", "o_in", "mlp_in", "down_in"}


def test_queries_are_rounded_where_keys_have_few_bits() -> None:
    x = torch.randn(1, 2, 3, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounding({}, Affine(bits=8))("query", x), round_tokens(x, 8))
    assert torch.equal(rounding({}, Half())("query", x), x)
    assert torch.equal(rounding({})("query", x), x)
    assert torch.equal(rounding({}, Affine(bits=4))("key", x), Affine(bits=4).roundtrip(x))


def test_tokens_are_rounded_to_a_symmetric_grid_each() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [127.0, -64.4, 0.5], [2.54, -0.01, 1.0]])
    expected = torch.tensor([[0.0, 0.0, 0.0], [127.0, -64.0, 0.0], [2.54, -0.02 * 0, 1.0]])  # 0.5 to even
    assert torch.allclose(round_tokens(x, 8), expected, atol=1e-6)
    assert torch.equal(round_tokens(-x, 8), -round_tokens(x, 8))
    broken = round_tokens(torch.tensor([[1.0, torch.nan, 0.0], [1.0, 2.0, 4.0]]), 8)
    assert broken[0].isnan().all()  # what cannot be rounded is not made plausible
    assert broken[1].isfinite().all()

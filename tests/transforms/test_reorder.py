from __future__ import annotations

import pytest
import torch

from intaglio.formats import Integer
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import Weights
from intaglio.transforms import Reorder
from intaglio.transforms.fold import divide
from tests.transforms.small import layer, observation


def with_salience(case: str) -> tuple[ModelSpec, Weights]:
    """A layer where some channels read by o and down are large, and their weights small."""
    spec, w = layer(case)
    generator = torch.Generator().manual_seed(2)
    for point, size in (("o_in", spec.num_kv_heads * spec.head_dim), ("down_in", spec.intermediate_size)):
        w = divide(spec, w, point, 10 ** (torch.rand(size, generator=generator) * 3 - 1.5))
    return spec, w


def error(spec: ModelSpec, w: Weights, role: str) -> float:
    """Mean squared error of the linear's output after rounding to 4 bits in groups of 8."""
    weight = w[{"o": "self_attn.o_proj.weight", "down": "mlp.down_proj.weight"}[role]]
    coding = Integer(bits=4, group_size=8)
    tables = coding.fit(weight)
    difference = coding.decode(coding.encode(weight, tables), tables) - weight
    return float((difference @ observation(spec, 0, w).hessian(f"{role}_in") * difference).sum())


@pytest.mark.parametrize("role", ["o", "down"])
@pytest.mark.parametrize("case", ["llama", "gemma2", "qwen3"])
def test_groups_of_like_salience_round_better(case: str, role: str) -> None:
    spec, w = with_salience(case)
    reordered = Reorder().layer(spec, 0, w, observation(spec, 0, w))
    assert error(spec, reordered, role) < error(spec, w, role) / 2


@pytest.mark.parametrize("case", ["llama-biased", "qwen3"])
def test_inputs_ascend(case: str) -> None:
    spec, w = with_salience(case)
    after = observation(spec, 0, Reorder().layer(spec, 0, w, observation(spec, 0, w)))
    assert (after.absmax("down_in").diff() >= 0).all()
    heads = after.absmax("o_in").reshape(spec.num_kv_heads, -1, spec.head_dim)
    assert (heads.amax(1).diff(dim=-1) >= 0).all()


def test_gate_follows_up() -> None:
    spec, w = layer("llama")
    after = Reorder().layer(spec, 0, w, observation(spec, 0, w))
    order = observation(spec, 0, w).absmax("down_in").argsort(stable=True)
    for name in ("mlp.gate_proj.weight", "mlp.up_proj.weight"):
        assert torch.equal(after[name], w[name][order])
    assert torch.equal(after["mlp.down_proj.weight"], w["mlp.down_proj.weight"][:, order])


def test_power_sorts_what_down_reads_and_nothing_else() -> None:
    spec, w = with_salience("llama")
    reorder = Reorder(by="power", roles=("down",))
    after = reorder.layer(spec, 0, w, observation(spec, 0, w))
    power = observation(spec, 0, after).hessian("down_in").diagonal()
    assert (power.diff() >= -1e-6 * power[1:]).all()
    assert torch.equal(after["self_attn.o_proj.weight"], w["self_attn.o_proj.weight"])

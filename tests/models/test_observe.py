"""Statistics of a block are those of the activations that transformers' own modules see."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from intaglio.models import observe, roles, transformer
from intaglio.models.observe import Observation
from intaglio.models.transformer import POINTS, block, layer_weights
from tests.models.tiny import tiny, tiny_checkpoint

SIZES = [(2, 5), (1, 1), (3, 7)]  # (batch, tokens): 32 tokens in all


@pytest.fixture(scope="module")
def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(b, t, 64, generator=generator) for b, t in SIZES]


@pytest.fixture
def observation(batches: list[torch.Tensor]) -> Observation:
    checkpoint = tiny_checkpoint("qwen3")
    return Observation(checkpoint.spec, 1, layer_weights(checkpoint, 1), batches)


def seen(observation: Observation, point: str) -> torch.Tensor:
    """What passes a point, tokens first, in float64."""
    kept = []

    def tap(at: str, x: torch.Tensor) -> torch.Tensor:
        if at == point:
            kept.extend(x.double() if x.ndim == 3 else x.double().transpose(1, 2))
        return x

    with torch.no_grad():
        for x in observation.batches:
            block(observation.spec, observation.layer, observation.weights, x, tap=tap)
    return torch.cat(kept)


@pytest.mark.parametrize("point", POINTS)
def test_channels_are_those_of_all_tokens(observation: Observation, point: str) -> None:
    x = seen(observation, point)
    assert len(x) == 32
    assert torch.equal(observation.absmax(point).double(), x.abs().amax(0))
    assert torch.allclose(observation.mean_abs(point).double(), x.abs().mean(0), rtol=1e-6)
    shape = {"query": (4, 32), "key": (2, 32), "value": (2, 32)}.get(point)
    assert shape is None or observation.absmax(point).shape == shape


def test_channels_of_much_text_are_those_of_evenly_spaced_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "CHANNEL_TOKENS", 4)
    checkpoint = tiny_checkpoint("qwen3")
    batches = [torch.randn(1, 2, 64) for _ in range(6)]
    weights = layer_weights(checkpoint, 1)
    few = Observation(checkpoint.spec, 1, weights, [batches[0], batches[3]])
    assert torch.equal(
        Observation(checkpoint.spec, 1, weights, batches).absmax("down_in"), few.absmax("down_in")
    )


@pytest.mark.parametrize("point", roles.INPUTS)
def test_the_hessian_is_the_mean_outer_product(observation: Observation, point: str) -> None:
    x, found = seen(observation, point), observation.hessian(point)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), x.T @ x / len(x), atol=1e-6 * float(x.square().amax()))
    assert torch.equal(found, found.mT)


@pytest.mark.parametrize("count", [1, 5, 32, 100])
def test_rows_are_spread_evenly(observation: Observation, count: int) -> None:
    x = seen(observation, "down_in").float()
    wanted = [i * 32 // min(count, 32) for i in range(min(count, 32))]
    assert torch.equal(observation.rows("down_in", count), x[wanted])
    assert observation.rows("key", count).shape == (len(wanted), 2, 32)


def test_a_point_is_what_transformers_feeds_its_linears(batches: list[torch.Tensor]) -> None:
    model, checkpoint = tiny("llama"), tiny_checkpoint("llama")
    inputs: list[torch.Tensor] = []
    hook = model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda m, args, out: inputs.append(args[0])
    )
    ids = torch.arange(12)[None]
    with torch.no_grad():
        model(ids)
        x = transformer.embed(checkpoint.spec, transformer.outer_weights(checkpoint), ids)
    hook.remove()
    observation = Observation(checkpoint.spec, 0, layer_weights(checkpoint, 0), [x])
    assert torch.allclose(observation.rows("down_in", 12), inputs[0][0], atol=1e-5)


class Counted(Sequence[torch.Tensor]):
    """Batches that count how often they are read."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches, self.reads = batches, 0

    def __getitem__(self, index: int) -> torch.Tensor:
        x = self.batches[index]
        self.reads += 1
        return x

    def __len__(self) -> int:
        return len(self.batches)


def test_one_pass_answers_a_kind_for_every_point(batches: list[torch.Tensor]) -> None:
    checkpoint, counted = tiny_checkpoint("olmo2"), Counted(batches)
    observation = Observation(checkpoint.spec, 0, layer_weights(checkpoint, 0), counted)
    assert counted.reads == 0
    for point in POINTS:
        observation.absmax(point), observation.mean_abs(point)
    assert counted.reads == len(batches)
    for _ in range(2):
        [observation.hessian(point) for point in roles.INPUTS]
    assert counted.reads == 2 * len(batches)


def test_it_is_deterministic_and_leaves_its_inputs_alone(batches: list[torch.Tensor]) -> None:
    checkpoint = tiny_checkpoint("gemma2")
    before = [x.clone() for x in batches]
    weights = layer_weights(checkpoint, 0)
    first, second = (Observation(checkpoint.spec, 0, weights, batches) for _ in range(2))
    for point in roles.INPUTS:
        assert torch.equal(first.hessian(point), second.hessian(point))
        assert torch.equal(first.mean_abs(point), second.mean_abs(point))
    assert all(torch.equal(x, y) for x, y in zip(before, batches, strict=True))


def test_many_batches_do_not_wear_the_mean_down() -> None:
    checkpoint = tiny_checkpoint("llama")
    x = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    weights = layer_weights(checkpoint, 0)
    once = Observation(checkpoint.spec, 0, weights, [x]).hessian("mlp_in")
    often = Observation(checkpoint.spec, 0, weights, [x] * 500).hessian("mlp_in")
    assert torch.allclose(once, often, atol=1e-5 * float(once.abs().max()))

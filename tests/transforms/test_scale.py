from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.formats import Format, Integer, TwoLevel
from intaglio.models import transformer
from intaglio.models.observe import Observation
from intaglio.models.roles import INPUTS
from intaglio.transforms import ActivationScale
from intaglio.transforms.capture import capture, spaced
from intaglio.transforms.fold import PRODUCER, divide, key, spread
from intaglio.transforms.scale import search
from tests.transforms.small import layer, observation, small, stream


def rounded(coding: Format, w: torch.Tensor) -> torch.Tensor:
    tables = coding.fit(w)
    return coding.decode(coding.encode(w, tables), tables)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma2", "phi3", "granite"])
def test_never_worse_than_plain_rounding(case: str, bits: int) -> None:
    spec, w = layer(case)
    transform = ActivationScale(format=Integer(bits=bits, group_size=16), steps=8, tokens=48)
    found = transform.search(spec, 0, w, observation(spec, 0, w))
    assert list(found) == list(PRODUCER)
    for one in found.values():
        assert one.loss <= one.plain
        assert 0 <= one.alpha < 1
        assert (one.scale > 0).all()


@pytest.mark.parametrize("coding", [Integer(bits=3, group_size=64), TwoLevel(bits=3)], ids=str)
def test_one_percent_of_large_channels(coding: Format) -> None:
    """The card's synthetic claim: 1 % of the channels 50 times larger, Gaussian weights, 3 bits."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(512, 600, generator=generator), torch.randn(64, 600, generator=generator)
    x[:, torch.randperm(600, generator=generator)[:6]] *= 50

    def loss(scale: torch.Tensor) -> float:
        return float((x @ (rounded(coding, w * scale) / scale - w).T).square().mean())

    found = search(x.abs().mean(0), loss, 20)
    assert found.loss < found.plain / 4  # squared: the error is below half
    assert found.alpha > 0


def test_the_same_in_a_block() -> None:
    spec, weights = small("llama", intermediate_size=600)
    w = {name.removeprefix("model.layers.0."): v for name, v in weights.items() if ".layers.0." in name}
    w["mlp.up_proj.weight"][[5, 77, 200, 333, 480, 599]] *= 50
    transform = ActivationScale(format=Integer(bits=3, group_size=64))
    found = transform.search(spec, 0, w, observation(spec, 0, w))["down_in"]
    assert found.loss < found.plain / 4


@pytest.mark.parametrize("case", ["llama", "olmo2"])
def test_the_loss_is_the_error_of_the_folded_weights(case: str) -> None:
    spec, w = layer(case)
    coding = Integer(bits=3, group_size=16)
    x = stream(spec)
    found = ActivationScale(format=coding).search(spec, 0, w, Observation(spec, 0, w, [x]))
    for point, name in (("o_in", "self_attn.o_proj.weight"), ("down_in", "mlp.down_proj.weight")):
        scale = spread(spec, point, found[point].scale)
        inputs = torch.cat([one.flatten(0, 1) for one in capture(spec, 0, w, [x], 1 << 20)[point]])
        error = inputs / scale @ (rounded(coding, w[name] * scale) - w[name] * scale).T
        assert found[point].loss == pytest.approx(float(error.square().mean()), rel=1e-4)


@pytest.mark.parametrize("case", ["llama", "qwen2", "gemma2"])
def test_the_readers_of_a_norm_are_judged_by_their_modules_output(case: str) -> None:
    """Attention's after o, the MLP's after down: of the very weights that are folded and rounded."""
    spec, w = layer(case)
    coding, x = Integer(bits=3, group_size=16), stream(spec)
    found = ActivationScale(format=coding).search(spec, 0, w, Observation(spec, 0, w, [x]))
    modules = {
        "attention_in": partial(transformer.attention, spec, 0),
        "mlp_in": partial(transformer.mlp, spec),
    }
    for point, module in modules.items():
        (inputs,) = capture(spec, 0, w, [x], 1 << 20)[point]
        folded = divide(spec, w, point, found[point].scale)
        coded = {key(role): rounded(coding, folded[key(role)]) for role in INPUTS[point]}
        error = module({**folded, **coded}, inputs / found[point].scale) - module(w, inputs)
        assert found[point].loss == pytest.approx(float(error.square().mean()), rel=1e-3)


def test_without_pre_norms_their_readers_are_skipped_and_said_so() -> None:
    spec, w = layer("olmo2")
    transform = ActivationScale(format=Integer(bits=3, group_size=16), steps=4)
    assert transform.refuses(spec) is None
    assert transform.omits(spec) == (
        "q, k, v, gate, up are not scaled: Olmo2ForCausalLM has no norm before them"
    )
    assert list(transform.search(spec, 0, w, observation(spec, 0, w))) == ["o_in", "down_in"]
    assert transform.omits(small("llama")[0]) is None


def test_dead_channels_stay_finite() -> None:
    spec, w = layer("llama")
    w["mlp.up_proj.weight"] = w["mlp.up_proj.weight"].clone()
    w["mlp.up_proj.weight"][:3] = 0
    after = ActivationScale().layer(spec, 0, w, observation(spec, 0, w))
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_finalists_of_a_rough_loss_are_judged_by_the_whole() -> None:
    """The best of all alphas, of which most were only tried on a part of the inputs."""
    generator, coding = torch.Generator().manual_seed(0), Integer(bits=3, group_size=64)
    x, w = torch.randn(2048, 256, generator=generator), torch.randn(64, 256, generator=generator)
    x = x * torch.randn(256, generator=generator).exp()
    asked: list[int] = []

    def loss(scale: torch.Tensor, tokens: int = 2048) -> float:
        asked.append(tokens)
        return float((x[:tokens] @ (rounded(coding, w * scale) / scale - w).T).square().mean())

    salience = x.abs().mean(0)
    whole = search(salience, loss, 20)
    asked.clear()
    found = search(salience, loss, 20, partial(loss, tokens=128))
    assert (found.alpha, found.loss, found.plain) == (whole.alpha, whole.loss, whole.plain)
    assert whole.alpha > 0
    assert asked == 19 * [128] + 5 * [2048]


saliences = st.lists(st.floats(0, 2**12, width=32), min_size=1, max_size=70).map(torch.tensor)


@settings(deadline=None)
@given(saliences, st.integers(0, 9))
def test_the_search_starts_from_plain_rounding_and_never_loses(salience: torch.Tensor, seed: int) -> None:
    """Whatever the channels' sizes, dead ones among them."""
    w = torch.randn(3, len(salience), generator=torch.Generator().manual_seed(seed))

    def loss(scale: torch.Tensor) -> float:
        error = (rounded(Integer(3, group_size=16), w * scale) / scale - w) * salience
        return float(error.square().mean())

    found = search(salience, loss, 20)
    assert found.plain == loss(torch.ones(len(salience)))
    assert found.loss == loss(found.scale) <= found.plain


@settings(deadline=None)
@given(saliences, st.floats(2**-10, 2**10))
def test_a_scale_is_centred_and_blind_to_the_unit_of_the_inputs(salience: torch.Tensor, unit: float) -> None:
    """Unnormalised it would widen the range of every group."""

    def widest(scale: torch.Tensor) -> float:
        return -float(scale.amax() / scale.amin())

    salience = salience.clamp(min=1)
    one, other = (search(size, widest, 20).scale for size in (salience, salience * unit))
    assert float(one.amax() * one.amin()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=0)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 60))
def test_sequences_are_whole_spread_and_bounded(sizes: list[int], length: int, tokens: int) -> None:
    numbers = torch.arange(sum(sizes)).reshape(-1, 1, 1).expand(-1, length, 1)
    taken = list(spaced(numbers.split(sizes), tokens))
    assert sum(x.shape[0] * x.shape[1] for x in taken) <= tokens
    assert {x.shape[1] for x in taken} == {min(length, tokens)}
    picked = torch.cat([x[:, 0, 0] for x in taken])
    assert len(picked) == min(sum(sizes), max(1, tokens // length))
    gaps = picked.diff(append=torch.tensor([sum(sizes)]))
    assert picked[0] == 0
    assert (gaps > 0).all()
    assert gaps.max() - gaps.min() <= 1

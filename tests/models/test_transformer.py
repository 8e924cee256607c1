"""The one torch transformer against transformers' own modules."""

from __future__ import annotations

import msgspec
import pytest
import torch

from intaglio.models.architectures import spec_from_config
from intaglio.models.rope import rope
from intaglio.models.spec import Layer, ModelSpec
from intaglio.models.transformer import POINTS, Weights, block, embed, forward, head
from tests.models.tiny import ARCHITECTURES, CASES, canonical, tiny, tiny_checkpoint, tokens


def weights_of(model: torch.nn.Module) -> Weights:
    return {name: torch.from_numpy(tensor) for name, tensor in canonical(model).items()}


def inside(weights: Weights, layer: int) -> Weights:
    prefix = f"model.layers.{layer}."
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def logits(spec: ModelSpec, weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    x = embed(spec, weights, ids)
    for layer in range(spec.num_layers):
        x = block(spec, layer, inside(weights, layer), x)
    return head(spec, weights, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str, dtype: torch.dtype) -> None:
    model = tiny(case).to(dtype)
    config = model.config.to_dict()
    spec = spec_from_config(config)
    ids = tokens(37, batch=2)
    with torch.no_grad():
        expected = model(ids).logits
        found = logits(spec, weights_of(model), ids)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 5e-6  # transformers itself turns and norms in float32
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


SHOWS = [  # a case, and something its spec says that must not be lost
    ("llama", {"norm_eps": 0.5}),
    ("mistral", {"layers": (Layer(), Layer())}),
    ("qwen2-window", {"layers": (Layer(), Layer())}),
    ("llama-yarn", {"ropes": (rope({"rope_theta": 1000.0}, 16, 256),)}),
    ("smollm3", {"layers": (Layer(), Layer())}),
    ("gemma2", {"attention_softcap": None}),
    ("gemma2", {"logit_softcap": None}),
    ("gemma2", {"attention_scale": 1.0}),
    ("gemma2", {"embed_scale": 1.0}),
    ("gemma2", {"activation": "gelu"}),
    ("gemma2", {"activation": "silu"}),
    ("gemma2", {"post_norm": False}),
    ("gemma3", {"layers": (Layer(window=6, rope=1), Layer(rope=1))}),
    ("qwen3", {"qk_norm": None}),
    ("granite", {"residual_scale": 1.0}),
    ("granite", {"logit_scale": 1.0}),
]


@pytest.mark.parametrize(("case", "change"), SHOWS, ids=lambda x: x if isinstance(x, str) else next(iter(x)))
def test_nothing_a_spec_says_can_be_left_out_unseen(case: str, change: dict) -> None:
    model = tiny(case)
    config = model.config.to_dict()
    spec = spec_from_config(config)
    weights, ids = weights_of(model), tokens(37)
    with torch.no_grad():
        right = logits(spec, weights, ids)
        wrong = logits(msgspec.structs.replace(spec, **change), weights, ids)
    assert (right - wrong).abs().max() > 2e-5 * right.abs().max()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_prefix_has_the_logits_it_has_in_the_whole(count: int) -> None:
    model = tiny("gemma2")  # softcap (explicit scores) and a window of 6
    config = model.config.to_dict()
    spec = spec_from_config(config)
    weights, ids = weights_of(model), tokens(20)
    with torch.no_grad():
        whole = logits(spec, weights, ids)[:, :count]
        assert torch.allclose(logits(spec, weights, ids[:, :count]), whole, atol=1e-5)


def test_a_tap_sees_every_point_in_order_and_may_replace_it() -> None:
    model = tiny("qwen3")
    config = model.config.to_dict()
    spec = spec_from_config(config)
    w, x = inside(weights_of(model), 0), torch.randn(2, 5, 64)
    readers = [
        "attention_in",
        "q",
        "query",
        "k",
        "key",
        "v",
        "value",
        "o_in",
        "mlp_in",
        "gate",
        "up",
        "down_in",
    ]
    seen = {}

    def look(point: str, value: torch.Tensor) -> torch.Tensor:
        seen[point] = tuple(value.shape)
        return value

    with torch.no_grad():
        untouched = block(spec, 0, w, x)
        assert torch.equal(block(spec, 0, w, x, tap=look), untouched)
        for point in readers:
            changed = block(spec, 0, w, x, tap=lambda p, v, point=point: v * 1.1 if p == point else v)
            assert not torch.allclose(changed, untouched), point
    assert list(seen) == readers
    assert set(POINTS) < set(readers)
    assert seen["query"] == (2, 4, 5, 32)
    assert seen["key"] == seen["value"] == (2, 2, 5, 32)
    assert seen["o_in"] == (2, 5, 128)


def test_projections_beside_embedding_and_head_are_applied() -> None:
    model = tiny("llama")
    config = model.config.to_dict()
    spec = spec_from_config(config)
    weights = weights_of(model)
    turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))[0]
    with torch.no_grad():
        there = embed(spec, weights | {"model.embed_proj.weight": turn}, tokens(5))
        assert torch.allclose(there, embed(spec, weights, tokens(5)) @ turn.T, atol=1e-5)
        x = torch.randn(1, 5, 64)
        folded = weights | {"lm_head.weight": weights["lm_head.weight"] @ turn}
        expected = head(spec, folded, x)
        assert torch.allclose(head(spec, weights | {"model.head_proj.weight": turn}, x), expected, atol=1e-4)


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_forward_streams_a_checkpoint(case: str) -> None:
    ids = tokens(19)
    with torch.no_grad():
        expected = tiny(case)(ids).logits
    found = forward(tiny_checkpoint(case), ids)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()

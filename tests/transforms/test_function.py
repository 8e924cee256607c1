"""Every transform, alone and with all others, leaves the logits of every architecture as they are."""

from __future__ import annotations

import msgspec
import pytest
import torch

from intaglio.formats import Integer
from intaglio.recipe import load_recipe
from intaglio.transforms import (
    ActivationScale,
    Reorder,
    Rotate,
    SmoothAttention,
    SmoothInput,
    SmoothOutput,
    Transform,
)
from tests.models.tiny import CASES, tokens
from tests.transforms.small import inside, layer, logits, observation, rewrite, small

SCALE = ActivationScale(format=Integer(bits=3, group_size=16), steps=4, tokens=16)
EXAMPLES: dict[str, list[Transform]] = {
    "rotate": [Rotate()],
    "rotate-random": [Rotate(kind="random", seed=3, heads=False)],
    "rotate-twice": [Rotate(), Rotate(seed=1)],
    "smooth-attention": [SmoothAttention()],
    "smooth-attention-beta": [SmoothAttention(alpha=0.6, beta=0.4)],
    "smooth-attention-search": [SmoothAttention(search=3)],
    "smooth-output": [SmoothOutput()],
    "smooth-down": [SmoothOutput(alpha=0.5, beta=0.1, roles=("down",))],
    "reorder": [Reorder()],
    "reorder-power": [Reorder(by="power", roles=("down",))],
    "smooth-input": [SmoothInput()],
    "scale": [SCALE],
    "all": [Rotate(), Reorder(), SmoothOutput(), SmoothAttention(), SCALE],
}
SEARCHES = ("smooth-attention-search", "scale")  # may find that nothing is best


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("case", CASES)
def test_logits_stay(case: str, name: str) -> None:
    spec, weights = small(case, torch.float64)
    transforms = [t for t in EXAMPLES[name] if t.refuses(spec) is None]
    ids = tokens(21, batch=2)
    before = logits(spec, weights, ids)
    after = rewrite(transforms, spec, weights, ids)
    assert relative(logits(spec, after, ids), before) < 1e-9
    if transforms and name not in SEARCHES:
        changed = [key for key, w in weights.items() if not torch.equal(after[key], w)]
        assert changed, "nothing was rewritten"
    single = {key: w.float() for key, w in after.items()}
    assert relative(logits(spec, single, ids), before) < 1e-4


@pytest.mark.parametrize("case", ["llama-biased", "qwen3", "olmo2", "llama-tied"])
def test_float32_stays_float32_and_keeps_the_logits(case: str) -> None:
    spec, weights = small(case)
    transforms = [t for t in EXAMPLES["all"] if t.refuses(spec) is None]
    ids = tokens(21)
    after = rewrite(transforms, spec, weights, ids)
    assert {w.dtype for w in after.values()} == {torch.float32}
    assert relative(logits(spec, after, ids), logits(spec, weights, ids)) < 1e-4


@pytest.mark.parametrize("recipe", ["qserve", "atom", "atom-w4a8"])
@pytest.mark.parametrize("case", ["llama-biased", "llama-tied", "qwen2"])
def test_what_a_recipe_rewrites_before_it_rounds_keeps_the_logits(case: str, recipe: str) -> None:
    spec, weights = small(case)
    ids, transforms = tokens(21, batch=2), load_recipe(recipe).transforms
    assert [t.refuses(spec) for t in transforms] == [None] * len(transforms)
    after = rewrite(transforms, spec, weights, ids)
    assert any(not torch.equal(after[key], w) for key, w in weights.items())
    assert relative(logits(spec, after, ids), logits(spec, weights, ids)) < 1e-4


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("case", ["llama-biased", "llama-tied", "qwen3", "gemma2", "olmo2"])
def test_nothing_given_is_written_to(case: str, name: str) -> None:
    spec, weights = small(case)
    copy = {key: w.clone() for key, w in weights.items()}
    kept = dict(weights)
    w = inside(weights, 0)
    for transform in EXAMPLES[name]:
        if transform.refuses(spec) is None:
            given = dict(w)
            transform.outer(spec, weights)
            transform.layer(spec, 0, w, observation(spec, 0, w))
            assert list(w) == list(given)
            assert all(w[key] is given[key] for key in given)
    assert list(weights) == list(kept)
    assert all(weights[key] is kept[key] and torch.equal(kept[key], copy[key]) for key in kept)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_twice(name: str) -> None:
    spec, w = layer("llama-biased")
    for transform in EXAMPLES[name]:
        first, second = (transform.layer(spec, 0, w, observation(spec, 0, w)) for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", EXAMPLES)
def test_settings_survive_json(name: str) -> None:
    for transform in EXAMPLES[name]:
        assert msgspec.json.decode(msgspec.json.encode(transform), type=Transform) == transform


def test_unknown_or_absurd_settings_are_refused() -> None:
    for text in (
        '{"type": "rotate", "angle": 3}',
        '{"type": "spin"}',
        '{"type": "smooth_output", "alpha": 1.5}',
        '{"type": "smooth_output", "roles": ["up"]}',
        '{"type": "awq_scale", "steps": 0}',
        '{"type": "smooth_attention", "search": -1}',
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=Transform)


@pytest.mark.parametrize("case", CASES)
def test_only_what_cannot_be_kept_is_refused(case: str) -> None:
    spec, _ = small(case)
    refusals = {type(t): t.refuses(spec) for name in EXAMPLES for t in EXAMPLES[name]}
    for kind, refused in ((Rotate, spec.post_norm), (SmoothInput, not spec.pre_norm)):
        sentence = refusals.pop(kind)
        assert (sentence is not None) == refused
        assert sentence is None or spec.architecture in sentence
    assert set(refusals.values()) == {None}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())

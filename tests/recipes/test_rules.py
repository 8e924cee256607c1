"""Which rule holds for which matrix."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from intaglio.errors import UsageError
from intaglio.models.spec import Layer, ModelSpec, Rope
from intaglio.recipe import Recipe, Rule, assign, load_recipe, sites

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=32,
    hidden_size=8,
    num_layers=4,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    intermediate_size=16,
    norm_eps=1e-5,
    max_position=64,
    ropes=(Rope(dim=4, inv_freq=(1.0, 0.1)),),
    layers=(Layer(),) * 4,
)
TERMS = [{"type": "dense", "format": {"type": "int", "bits": 4}}]


def recipe(*rules: dict[str, Any]) -> Recipe:
    data = {"name": "t", "source": "", "summary": "", "weights": [{"terms": TERMS, **rule} for rule in rules]}
    return msgspec.convert(data, Recipe)


def named(assigned: dict[str, Rule]) -> list[str]:
    return [name.removeprefix("model.layers.") for name in assigned]


def test_linear_is_the_seven_of_every_layer() -> None:
    assigned = assign(recipe({}), sites(SPEC))
    assert len(assigned) == 28
    assert "lm_head" not in assigned
    assert "model.embed_tokens" not in assigned


def test_a_tied_head_is_the_embedding() -> None:
    tied = sites(msgspec.structs.replace(SPEC, tied=True))
    assert [site.role for site in sites(SPEC)][::29] == ["embedding", "lm_head"]
    assert [site.role for site in tied if site.layer is None] == ["embedding"]
    head = recipe({"match": ["lm_head"]})
    assert list(assign(head, sites(SPEC))) == ["lm_head"]
    assert list(assign(head, tied)) == ["model.embed_tokens"]


def test_the_last_match_holds() -> None:
    assigned = assign(
        recipe(
            {}, {"match": ["down"], "layers": "1-2", "solver": {"type": "obs"}}, {"match": ["o"], "terms": []}
        ),
        sites(SPEC),
    )
    found = {name: rule.solver.__class__.__name__ for name, rule in assigned.items()}
    assert len(found) == 24  # o is left as it is
    assert found["model.layers.1.mlp.down_proj"] == found["model.layers.2.mlp.down_proj"] == "Obs"
    assert found["model.layers.0.mlp.down_proj"] == "Greedy"


@pytest.mark.parametrize("name", ["awq-w3", "awq-w4"])
def test_awq_clips_all_but_queries_and_keys(name: str) -> None:
    """Their product is what matters: a range clipped for either alone misleads."""
    assigned = assign(load_recipe(name), sites(SPEC))
    assert {site.rsplit(".", 1)[1] for site, rule in assigned.items() if rule.clip is None} == {
        "q_proj",
        "k_proj",
    }


def test_patterns_cover_whole_names_and_layers_are_ranges() -> None:
    assigned = assign(recipe({"match": [r"re:.*\.(q|k)_proj"], "layers": "0,2-3"}), sites(SPEC))
    assert named(assigned) == [f"{i}.self_attn.{r}_proj" for i in (0, 2, 3) for r in "qk"]
    with pytest.raises(UsageError, match="matches nothing"):
        assign(recipe({"match": ["re:self_attn"]}), sites(SPEC))


@pytest.mark.parametrize(
    ("layers", "expected"), [("-1", [3]), ("0,-1", [0, 3]), ("-4,2-3", [0, 2, 3]), ("1-1", [1])]
)
def test_layers_are_counted_from_either_end(layers: str, expected: list[int]) -> None:
    assigned = assign(recipe({"match": ["q"], "layers": layers}), sites(SPEC))
    assert named(assigned) == [f"{i}.self_attn.q_proj" for i in expected]


@pytest.mark.parametrize("layers", ["0,29", "4-9", "2-4", "-5", "3-1"])
def test_layers_that_are_not_there_are_refused(layers: str) -> None:
    with pytest.raises(
        UsageError, match=rf"weights\[0\]: layers '{layers}': there is no .* among layers 0 to 3"
    ):
        assign(recipe({"match": ["q"], "layers": layers}), sites(SPEC))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"match": ["query"]}, r"weights\[0\]: 'query' matches nothing: there is linear, embedding, q, k"),
        ({"match": ["q", "re:.*expert.*"]}, "names like model.layers.0.self_attn.q_proj"),
        ({"match": ["re:("]}, "no regular expression"),
        ({"match": ["embedding"], "layers": "0"}, "'embedding' in layers 0 matches nothing"),
    ],
)
def test_a_pattern_that_matches_nothing_says_what_exists(rule: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        assign(recipe(rule), sites(SPEC))

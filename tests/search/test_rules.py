"""A choice as rules: few, and exactly that choice when a recipe is read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.errors import UsageError
from intaglio.models import roles
from intaglio.recipe import Calibration, assign, dump_recipe, load_recipe
from intaglio.recipe.rules import Site
from intaglio.search.candidates import named
from intaglio.search.rules import LONGEST, ranges, recipe

CANDIDATES = named(["int2", "int4", "gptq-w8a8", "float16"])


@given(st.sets(st.integers(0, 400), min_size=1))
def test_ranges_name_the_layers_in_parts_that_a_recipe_takes(layers: set[int]) -> None:
    parts = list(ranges(layers))
    assert all(len(part) <= LONGEST for part in parts)
    found = [part.partition("-") for text in parts for part in text.split(",")]
    assert {i for low, _, high in found for i in range(int(low), int(high or low) + 1)} == layers


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_the_recipe_says_the_choice(picks: list[int]) -> None:
    groups = [(layer, point) for layer in range(3) for point in roles.INPUTS]
    choice = {group: CANDIDATES[pick] for group, pick in zip(groups, picks, strict=True)}
    made = recipe("Some_Org/Model 1B!", choice, Calibration(), "a summary")
    assert made.name == "model-1b-searched"
    known = [Site(roles.site(layer, role), role, layer) for layer in range(3) for role in roles.LINEARS]
    rules = assign(made, known)
    for (layer, point), candidate in choice.items():
        for role in roles.INPUTS[point]:
            rule = rules[roles.site(layer, role)]
            assert (rule.terms, rule.solver, rule.activation) == (
                candidate.rule.terms,
                candidate.rule.solver,
                candidate.rule.activation,
            )


def test_the_recipe_survives_yaml(tmp_path: Path) -> None:
    choice = {(0, "o_in"): CANDIDATES[0], (1, "o_in"): CANDIDATES[3], (2, "o_in"): CANDIDATES[3]}
    made = recipe("tiny", choice, Calibration(samples=4), "a summary")
    (tmp_path / "r.yaml").write_text(dump_recipe(made))
    assert load_recipe(tmp_path / "r.yaml") == made


def test_candidates_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match="at least two candidates"):
        named(["int4", "int4"])
    with pytest.raises(UsageError, match="no recipe is called 'int9'"):
        named(["int4", "int9"])


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("int4", ()),
        ("rtn-w4", ()),
        ("wanda-2of4", ()),  # its limits say when the result counts as broken, and change no code
        ("gqsa", ("tune", "calibration")),
        ("gptq-w8a8", ("weights[1]", "transforms", "calibration")),
        ("ptqtp-weighted", ("weights[1]", "weights[2]")),
        ("qserve", ("weights[1]", "transforms", "cache")),
    ],
)
def test_a_candidate_knows_what_its_recipe_has_beside_the_first_rule(
    name: str, left_out: tuple[str, ...]
) -> None:
    found = {candidate.name: candidate.left_out for candidate in named([name, "int2", "float16"])}
    assert found[name] == left_out


def test_where_a_rule_was_meant_for_is_left_out_too(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    term = "{type: dense, format: {type: int, bits: 4, group_size: 64}}"
    path.write_text(
        f"name: some\nsource: made up\nsummary: made up\nweights:\n"
        f'- {{match: [v], layers: "0", terms: [{term}]}}\n'
    )
    assert named([str(path), "int2"])[0].left_out == ("match", "layers")


def test_a_search_within_a_recipe_is_no_candidate() -> None:
    with pytest.raises(UsageError, match="candidate tasder: its first rule has no terms"):
        named(["tasder", "int2"])

"""Recipes from YAML: what is accepted, and the one sentence for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.errors import UsageError
from intaglio.recipe import Recipe, dump_recipe, json_schema, load_recipe, shipped, shipped_names
from intaglio.transforms import Rotate

MINIMAL = """
name: tiny
source: a test
summary: a test
weights:
  - terms: [{type: dense, format: {type: int, bits: 4}}]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_recipe_survives_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(written(tmp_path, dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("recipe", shipped(), ids=lambda r: r.name)
def test_shipped_recipe_is_finished(recipe: Recipe) -> None:
    """It says where it comes from, and claims something beside a recipe that exists."""
    assert recipe.source
    assert recipe.claims
    for claim in recipe.claims:
        assert claim.better_than is None or claim.better_than in shipped_names()
        assert claim.better_than != recipe.name


def test_defaults_may_be_left_out(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, MINIMAL))
    assert recipe.weights[0].match == ("linear",)
    assert recipe.calibration.samples == 32


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("bits: 4", "bits: 9", r"Expected `int` <= 8 - at `\$\.weights\[0\]\.terms\[0\]\.format\.bits`"),
        (
            "bits: 4",
            "bits: four",
            r"Expected `int`, got `str` - at `\$\.weights\[0\]\.terms\[0\]\.format\.bits`",
        ),
        ("bits: 4", "bit: 4", "unknown field `bit`"),
        ("type: int", "type: integer", "Invalid value 'integer'"),
        ("type: dense", "type: thick", "'thick'"),
        ("source: a test\n", "", "missing required field `source`"),
        ("name: tiny", "name: Tiny Recipe", r"at `\$\.name`"),
        ("name: tiny", "name: tiny\nname: tiny", "line 3: 'name' is given twice"),
        ("name: tiny", "name: &a tiny\nother: *a", "aliases are not supported"),
        ("name: tiny", "1: tiny", "a key must be a plain name"),
        ("name: tiny", "? [a, b]\n: tiny", "a key must be a plain name"),
        ("name: tiny", "name: !!python/object:os.system tiny", "could not determine a constructor"),
        ("name: tiny", "name: 'tiny", "line"),
        ("weights:", "propagate: both\nweights:", r"Invalid enum value 'both' - at `\$\.propagate`"),
        ("weights:", "claims: [{metric: perplexity}]\nweights:", "either `better_than`"),
        ("weights:", "claims: [{metric: kl_mean, within: 0.1}]\nweights:", "full precision has none"),
        ("terms: [", "layers: 3-x\n    terms: [", r"at `\$\.weights\[0\]\.layers`"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in MINIMAL
    with pytest.raises(UsageError, match=expected) as caught:
        load_recipe(written(tmp_path, MINIMAL.replace(old, new, 1)))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "3", "[1, 2]", "- a: 1", "[" * 5000, "\x00", "a: 1: 2"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="recipe"):
        load_recipe(written(tmp_path, text))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean qserve"):
        load_recipe("qserv")
    with pytest.raises(UsageError, match=r"there are .*awq-w3"):
        load_recipe("something-else")
    with pytest.raises(UsageError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    huge = written(tmp_path, "#" * 300_000)
    with pytest.raises(UsageError, match="larger than"):
        load_recipe(huge)
    huge.write_bytes(b"name: \xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_recipe(huge)


def test_overrides_address_a_type_or_an_index() -> None:
    recipe = load_recipe(
        "qserve",
        [
            "transforms.rotate.enabled=false",
            "weights.0.terms.dense.format.group_size=32",
            "weights.0.solver.damp=5e-2",
            "calibration.samples=7",
            "cache=null",
        ],
    )
    first = recipe.transforms[0]
    assert isinstance(first, Rotate)
    assert not first.enabled
    assert recipe.weights[0].terms[0].format.group_size == 32  # type: ignore[union-attr]
    assert recipe.weights[0].solver.damp == 0.05  # type: ignore[union-attr]
    assert recipe.calibration.samples == 7
    assert recipe.cache is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("calibration.samples", "expected path=value"),
        ("=3", "expected path=value"),
        ("calibration..samples=3", "expected path=value"),
        ("transforms.rot.enabled=false", "'rot' names no single part of transforms: there is rotate"),
        ("weights.2.clip=null", "'2' names no single part of weights: there is 0, 1"),
        ("name.first=x", "name has no parts"),
        ("calibration.samples=0", r"Expected `int` >= 1 - at `\$\.calibration\.samples`"),
        ("calibration.sample=3", "unknown field `sample`"),
        ("calibration.samples=[", "override"),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        load_recipe("qserve", [override])


def test_an_unwritten_section_can_be_set_whole() -> None:
    recipe = load_recipe("rtn-w4", ["calibration={samples: 3}", "cache={type: int, bits: 8}"])
    assert recipe.calibration.samples == 3
    assert recipe.cache is not None


def test_the_schema_names_every_field() -> None:
    assert set(json_schema()["$defs"]["Recipe"]["properties"]) == set(Recipe.__struct_fields__)


def test_the_example_of_the_documentation_loads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "adding.md").read_text()
    example = text.partition("## A new recipe")[2].partition("```yaml\n")[2].partition("```")[0]
    assert load_recipe(written(tmp_path, example)).name == "qserve"

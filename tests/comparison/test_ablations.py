"""bench/ablations: recipes without one of their ideas can be carried out, and name what has it."""

from __future__ import annotations

from pathlib import Path

import pytest

import intaglio
from intaglio.recipe import load_recipe, shipped_names
from tests.system.small import SET, save_model

FOLDER = Path(__file__).parents[2] / "bench" / "ablations"
ABLATIONS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
LAX = ("limits.kl=100", "limits.perplexity=1e9")


def given(name: str) -> str:
    """What `compress` calls a recipe, shipped or not."""
    return name if name in shipped_names() else str(FOLDER / f"{name}.yaml")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_a_recipe(model: Path, tmp_path: Path, name: str) -> None:
    recipe = load_recipe(given(name))
    assert recipe.name == name
    assert recipe.claims
    assert {claim.better_than for claim in recipe.claims} <= {None, *shipped_names(), *ABLATIONS}
    report = intaglio.compress(model, given(name), tmp_path / "out", set=(*SET, *LAX), threads=1)
    assert report.coverage.coded == report.coverage.targeted > 0

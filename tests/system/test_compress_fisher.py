"""Runs whose metric is the Fisher information: what they code by, and that a killed one continues alike."""

from __future__ import annotations

from pathlib import Path

import pytest

import intaglio
from intaglio.compression import Event, InterruptedRunError
from intaglio.errors import UsageError
from intaglio.models import open_checkpoint
from intaglio.recipe import load_recipe
from tests.system.small import SET, contents, names, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def compress(model: Path, output: Path, recipe: str = "squeezellm", *more: str, **options: object) -> None:
    intaglio.compress(model, recipe, output, set=(*SET, *more), threads=1, **options)  # type: ignore[arg-type]


class Interrupt:
    """Ctrl-C after a block, having noted what was kept until then."""

    kept: list[str]

    def __init__(self, output: Path) -> None:
        self.partial = output.with_name("out.partial")

    def __call__(self, event: Event) -> None:
        if event.done == 1:
            self.kept = names(self.partial)
            raise KeyboardInterrupt


def test_an_interrupted_run_measures_once_and_continues_to_the_same_bytes(
    model: Path, tmp_path: Path
) -> None:
    whole, output = tmp_path / "whole" / "out", tmp_path / "out"
    compress(model, whole)
    interrupt = Interrupt(output)
    with pytest.raises(InterruptedRunError):
        compress(model, output, progress=interrupt)
    assert interrupt.kept == ["block-00000.safetensors", "fisher", "journal.json"]
    measured = sorted((tmp_path / "out.partial" / "fisher").iterdir())
    assert [path.name for path in measured] == [f"{i:05d}.safetensors" for i in range(3)]
    before = [path.stat().st_ino for path in measured]
    compress(model, output, resume=True, progress=lambda event: _still(measured, before))
    assert contents(output) == contents(whole)
    assert names(tmp_path) == ["out", "whole"]


def _still(files: list[Path], before: list[int]) -> None:
    if files[0].exists():
        assert [path.stat().st_ino for path in files] == before


def test_each_rule_has_its_metric(model: Path, tmp_path: Path) -> None:
    """Only the matrices whose rule says `fisher` are coded by it."""
    for metric in ("fisher", "identity"):
        compress(model, tmp_path / metric, "squeezellm-dense", f"weights.0.metric={metric}")
    compress(
        model, tmp_path / "both", "squeezellm-dense", 'weights=[{match: [linear], terms: [{type: codebook}], '
        'solver: {type: kmeans}, metric: identity}, {match: [down], terms: [{type: codebook}], '
        'solver: {type: kmeans}, metric: fisher}]'
    )  # fmt: skip
    tables = {
        path: {
            name: one.state["0.table"].tobytes()
            for name, one in open_checkpoint(tmp_path / path).linears.items()
            if "0.table" in one.state
        }
        for path in ("fisher", "identity", "both")
    }
    assert len(tables["both"]) == 21
    for name, table in tables["both"].items():
        right, wrong = ("fisher", "identity") if "down" in name else ("identity", "fisher")
        assert table == tables[right][name]
        assert table != tables[wrong][name]


def test_it_goes_with_no_transform(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="metric fisher is of the weights as they came, and rotate changes them"
    ):
        compress(model, tmp_path / "out", "squeezellm", "transforms=[{type: rotate}]")
    assert load_recipe("squeezellm").weights[0].metric == "fisher"

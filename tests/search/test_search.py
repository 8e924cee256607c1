"""search(): better than uniform at equal bytes, true about bytes, resumable, within its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import intaglio
from intaglio.cli import app as cli
from intaglio.compression import InterruptedRunError, Report, workers
from intaglio.compression.calibration import draw
from intaglio.compression.workers import Task
from intaglio.errors import MissingExtra, UsageError
from intaglio.lazy import lazy
from intaglio.models import open_checkpoint
from intaglio.recipe import dump_recipe, load_recipe
from intaglio.search import Found, Request, integer_program, search
from intaglio.search.measure import Measurement
from tests.search.small import planted, request

pytest.importorskip("scipy")

CANDIDATES = ("int2", "int3", "int4", "int8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("search") / "tiny", quiet=(0, 2))


def uniform(found: Found, name: str) -> Any:
    return next(point for point in found.uniform if point.name == name)


def limited(model: Path, **limits: Any) -> Found:
    return search(request(model, candidates=CANDIDATES, **limits))


@pytest.fixture(scope="module")
def as_large_as_int3(model: Path) -> Found:
    """Bytes of int3 everywhere."""
    size = uniform(limited(model, max_bits=32), "int3").nbytes
    return limited(model, max_size=size)


def compressed(model: Path, recipe: str, output: Path) -> Report:
    path = output.with_suffix(".yaml")
    path.write_text(recipe)
    return intaglio.compress(model, path, output, threads=1)


def test_it_beats_the_best_uniform_recipe_at_equal_bytes(
    model: Path, as_large_as_int3: Found, tmp_path: Path
) -> None:
    """Measured, not predicted, on text that neither calibrated nor chose."""
    found = as_large_as_int3
    ours = compressed(model, dump_recipe(found.recipe), tmp_path / "searched")
    text = dump_recipe(found.recipe)
    same = text[: text.index("weights:")] + (
        "weights:\n- terms: [{type: dense, format: {type: int, bits: 3, group_size: 64}}]\n"
        "  solver: {type: obs}\n  clip: {}\n" + text[text.index("rest:") :]
    )
    theirs = compressed(model, same, tmp_path / "uniform")
    assert ours.nbytes <= theirs.nbytes
    assert ours.verification.kl_mean < 0.8 * theirs.verification.kl_mean


def test_bits_go_where_they_matter(as_large_as_int3: Found) -> None:
    order = list(CANDIDATES)
    spent = [[order.index(name) for name in points.values()] for points in as_large_as_int3.choice.values()]
    quiet, loud = np.mean([spent[0], spent[2]]), np.mean([spent[1], spent[3]])
    assert quiet < loud


def test_predicted_bytes_are_those_of_the_artifact(
    model: Path, as_large_as_int3: Found, tmp_path: Path
) -> None:
    compressed(model, dump_recipe(as_large_as_int3.recipe), tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").nbytes == as_large_as_int3.chosen.nbytes


def test_predicted_bytes_count_what_matrices_share_once(model: Path, tmp_path: Path) -> None:
    names = ("cospadi-shared", "float16")
    found = search(request(model, candidates=names, max_ppl_increase=1e6, directory=tmp_path / "kept"))
    assert found.chosen.counts == {"cospadi-shared": 16}
    path = tmp_path / "found.yaml"
    path.write_text(dump_recipe(found.recipe))
    intaglio.compress(
        model, path, tmp_path / "out", threads=1, set=["limits.kl=100", "limits.perplexity=1e9"]
    )
    assert open_checkpoint(tmp_path / "out").nbytes == found.chosen.nbytes


def test_every_limit_binds(model: Path) -> None:
    loose = limited(model, max_bits=32)
    assert loose.chosen.loss == pytest.approx(min(point.loss for point in loose.uniform), rel=1e-6)
    assert limited(model, max_bits=8).chosen.bits_per_weight <= 8
    near = limited(model, max_ppl_increase=0.05)
    assert np.expm1(near.chosen.loss) <= 0.05
    nearer = limited(model, max_ppl_increase=0.005)
    assert near.chosen.nbytes < nearer.chosen.nbytes
    both = limited(model, max_ppl_increase=0.05, max_bits=32)
    assert both.chosen.nbytes == near.chosen.nbytes
    slow = min(point.tokens_per_s for point in loose.uniform) / 100
    assert limited(model, min_speed=slow).chosen.loss == pytest.approx(loose.chosen.loss, rel=1e-6)


def test_limits_that_cannot_be_kept_are_told_with_what_could(model: Path) -> None:
    with pytest.raises(UsageError, match=r"keeps the limits: the smallest has [\d.]+ bits per weight"):
        limited(model, max_bits=1)
    with pytest.raises(UsageError, match="keeps the limits"):
        limited(model, min_speed=1e12)
    with pytest.raises(UsageError, match="a search needs a limit: give one of --max-size"):
        Request(model="tiny")
    with pytest.raises(UsageError, match="--max-bits: -1 is no limit"):
        Request(model="tiny", max_bits=-1)


def test_the_curve_falls_and_lies_below_the_uniform_choices(as_large_as_int3: Found) -> None:
    losses = [point.loss for point in as_large_as_int3.curve]
    assert losses == sorted(losses, reverse=True)
    for point in as_large_as_int3.uniform:
        room = [other.loss for other in as_large_as_int3.curve if other.nbytes <= point.nbytes * 1.05]
        assert min(room) <= point.loss * (1 + 1e-6)


def test_an_interrupted_search_goes_on(
    model: Path, as_large_as_int3: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third layer: two are kept, and the losses are those of an undisturbed search."""
    whole, measured = Measurement._layer, []

    def stopped(self: Measurement, layer: int, *others: Any) -> Any:
        if layer == 2 and len(measured) == 2:
            measured.append(layer)
            raise KeyboardInterrupt
        measured.append(layer)
        return whole(self, layer, *others)

    monkeypatch.setattr(Measurement, "_layer", stopped)
    again = request(model, candidates=CANDIDATES, max_size=as_large_as_int3.chosen.nbytes, directory=tmp_path)
    with pytest.raises(InterruptedRunError, match="2 of 4 measured layers are kept"):
        search(again)
    found = search(again)
    assert measured == [0, 1, 2, 2, 3]
    for ours, theirs in zip(found.uniform, as_large_as_int3.uniform, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)


def test_the_verb_writes_a_recipe_and_a_page(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.yaml"
    shared = ["--samples", "6", "--seq-len", "64", "--threads", "1", "-d", str(model.with_name("found"))]
    arguments = ["search", str(model), "--max-size", "0.13MB", "--candidates", ",".join(CANDIDATES), *shared]
    done = CliRunner().invoke(cli.app, [*arguments, "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["chosen"]["nbytes"] <= 130_000
    assert f"--recipe {output}" in done.stderr
    assert "<figure" in output.with_suffix(".html").read_text()
    shown = CliRunner().invoke(cli.app, [*arguments, "--quiet"])
    assert "chosen" in shown.stdout
    assert shown.stderr == ""
    refused = CliRunner().invoke(cli.app, ["search", str(model), "--max-size", "lots"])
    assert refused.exit_code == 2
    assert "'lots' is no size" in refused.stderr


def test_a_candidate_that_rounds_its_input_loses_by_that_too(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "coarse.yaml"
    form = "{type: dense, format: {type: int, bits: 8, group_size: 64}}"
    path.write_text(
        "name: coarse\nsource: made up\nsummary: inputs of 3 bits\nweights:\n"
        f"- {{terms: [{form}], activation: {{type: int, bits: 3, symmetric: true}}}}\n"
    )
    found = search(request(model, candidates=("int8", str(path)), max_bits=32, directory=tmp_path))
    assert uniform(found, str(path)).loss > 10 * uniform(found, "int8").loss
    assert all(rule.activation is None for rule in found.recipe.weights)


def written(path: Path, weights: str, more: str = "") -> str:
    """The path of a recipe file with these rules."""
    path.write_text(f"name: written\nsource: made up\nsummary: made up\n{more}weights:\n{weights}")
    return str(path)


def int3(directory: Path, name: str, how: str) -> str:
    """A candidate that is every other of its kind but for `how` codes are found."""
    term = "{type: dense, format: {type: int, bits: 3, group_size: 64}}"
    return written(directory / f"{name}.yaml", f"- {{terms: [{term}], {how}}}\n")


def test_a_candidate_is_fitted_under_its_own_metric(model: Path, tmp_path: Path) -> None:
    """Without inputs error feedback is rounding to nearest; with them it is better."""
    inputs = int3(tmp_path, "inputs", "solver: {type: obs}")
    none = int3(tmp_path, "none", "solver: {type: obs}, metric: identity")
    nearest = int3(tmp_path, "nearest", "solver: {type: greedy}")
    found = search(
        request(model, candidates=(inputs, none, nearest), max_bits=32, directory=tmp_path / "found")
    )
    assert uniform(found, none).loss == pytest.approx(uniform(found, nearest).loss, rel=1e-6)
    assert uniform(found, inputs).loss < 0.9 * uniform(found, none).loss


def test_the_recipe_says_the_metric(model: Path, tmp_path: Path) -> None:
    none = int3(tmp_path, "none", "solver: {type: obs}, metric: identity")
    found = search(request(model, candidates=(none, "int2"), max_bits=32, directory=tmp_path / "found"))
    metrics = {
        name: rule.metric for name, rule in zip(found.chosen.counts, found.recipe.weights, strict=True)
    }
    assert metrics[none] == "identity"


def test_fisher_information_is_gathered_for_candidates_that_ask_for_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, weighed = workers.solve, []

    def recorded(task: Task) -> Any:
        if task.rule.metric == "fisher":
            weighed.append(task.metric.elements is not None and task.metric.elements.shape == task.w.shape)
        return whole(task)

    monkeypatch.setattr(workers, "solve", recorded)
    kept = tmp_path / "found"
    found = search(request(model, candidates=("squeezellm-dense", "int2"), max_bits=32, directory=kept))
    assert weighed == [True] * 7 * 4
    assert {
        rule.metric for rule in found.recipe.weights if rule.terms[0].__struct_config__.tag == "codebook"
    } == {"fisher"}
    assert not list(kept.rglob("*.safetensors"))


def test_a_text_too_short_to_observe_and_to_score_is_refused(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("short " * 32)
    with pytest.raises(
        UsageError,
        match=r"at least 4 windows of 64 tokens \(--windows 3 .*short.txt has 3: give .* --windows",
    ):
        limited(model, max_bits=32, text=(str(text),), windows=3)
    with pytest.raises(UsageError, match="--windows: 0"):
        limited(model, max_bits=32, windows=0)
    limited(model, max_bits=32, text=(str(text),), windows=2, directory=tmp_path / "found")


def test_the_recipe_names_the_calibration_text(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("something of my own " * 50)
    found = limited(model, max_bits=32, text=(str(text),), directory=tmp_path / "found")
    assert found.recipe.calibration.text == str(text)
    assert limited(model, max_bits=32).recipe.calibration.text == "pydoc"


def test_several_calibration_texts_become_one_of_the_same_windows(model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.jsonl"
    first.write_text("one line\u2028and another \u00e9 " * 20)
    second.write_text('{"text": "of two documents"}\n{"text": "or three"}\n')
    texts = (str(first), str(second))
    found = limited(model, max_bits=32, text=texts, directory=tmp_path / "found")
    settings, checkpoint = found.recipe.calibration, open_checkpoint(model)
    joined, apart = (draw(checkpoint, text, settings) for text in (settings.text, texts))
    assert joined.text == apart.text
    assert np.array_equal(joined.tokens, apart.tokens)


def test_scipy_is_asked_for_before_anything_is_measured(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer_program, "optimize", lazy("scipy_absent.optimize", extra="search"))
    with pytest.raises(
        MissingExtra, match=r"scipy_absent.optimize is needed .*pip install 'intaglio\[search\]'"
    ):
        limited(model, max_bits=32, directory=tmp_path / "found")
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("mine.html", "mine.html is no recipe's name: expected one that ends in .yaml or .yml"),
        ("mine", "mine is no recipe's name: expected one that ends in .yaml or .yml"),
        ("there.yaml", "there.yaml is a directory"),
        ("page.yml", "page.html is a directory"),
        ("/", "/ is a directory"),
    ],
)
def test_an_output_that_cannot_be_a_recipe_is_refused_before_any_work(
    output: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "there.yaml").mkdir()
    (tmp_path / "page.html").mkdir()
    arguments = ["search", "no-such-model", "--max-bits", "5", "-o", str(tmp_path / output)]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    assert says in done.stderr


def test_what_is_kept_needs_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = CliRunner().invoke(cli.app, ["search", "no-such-model", "--max-bits", "5", "-d", str(file)])
    assert done.exit_code == 2
    assert f"--directory: {file} is a file" in done.stderr


def test_the_verb_says_what_it_leaves_out_of_a_recipe(model: Path, tmp_path: Path) -> None:
    path = written(
        tmp_path / "turned.yaml",
        "- terms: [{type: dense, format: {type: int, bits: 4, group_size: 64}}]\n"
        "- {match: [v], terms: [{type: dense, format: {type: int, bits: 8, group_size: 64}}]}\n",
        "transforms: [{type: rotate}]\ncache: {type: int, bits: 4}\n",
    )
    shared = ["--samples", "6", "--seq-len", "64", "--threads", "1", "-d", str(tmp_path / "found")]
    arguments = ["search", str(model), "--max-bits", "32", "--candidates", f"{path},int2", *shared]
    done = CliRunner().invoke(cli.app, [*arguments, "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    left = ["weights[1]", "transforms", "cache"]
    assert f"{path}: only its first rule is a candidate, without its {', '.join(left)}" in done.stderr
    assert "int2:" not in done.stderr
    assert json.loads(done.stdout)["left_out"] == {path: left}
    assert "only its first rule" in (tmp_path / "found" / "recipe.html").read_text()
    assert not load_recipe(tmp_path / "found" / "recipe.yaml").transforms

"""compare(): every recipe on the same terms, nothing done twice, a failure no end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from intaglio.cli import app as cli
from intaglio.comparison import Request, apart, compare, run
from intaglio.compression import InterruptedRunError
from intaglio.errors import UsageError
from intaglio.evaluation import Result
from intaglio.evaluation.measure import Setting, Subject
from intaglio.models import open_checkpoint
from intaglio.recipe import Claim, dump_recipe, load_recipe
from tests import tiny_llm

SET = ("calibration.seq_len=48", "calibration.samples=4")
BROKEN = """
name: hopeless
source: made up
summary: is never near enough
weights: [{terms: [{type: dense, format: {type: int, bits: 2, group_size: 32}}]}]
limits: {kl: 1.0e-9}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("compare") / "tiny")


def request(model: Path, directory: Path, *recipes: str, **changes: Any) -> Request:
    settings = {
        "set": SET,
        "windows": 2,
        "seq_len": 48,
        "threads": 1,
        "rounds": 1,
        "directory": directory,
    } | changes
    return Request(model=str(model), recipes=recipes, **settings)


@pytest.fixture(scope="module")
def kept(model: Path) -> Path:
    """Where two recipes were compared before."""
    directory = model.with_name("kept")
    compare(request(model, directory, "rtn-w4", "gptq-w3"))
    return directory


def said(asked: Request) -> list[str]:
    lines: list[str] = []
    compare(asked, say=lines.append)
    return [line for line in lines if "perplexity" not in line]


def test_rows_are_what_evaluate_says(model: Path, kept: Path) -> None:
    found = compare(request(model, kept, "rtn-w4", "gptq-w3"))
    assert [row.recipe for row in found.rows] == ["rtn-w4", "gptq-w3"]
    for row in found.rows:
        assert row.result is not None
        artifact = open_checkpoint(_artifact(kept, row.recipe))
        assert row.result.bytes == artifact.nbytes
        assert row.result.kl_mean is not None
        assert len(row.sites) == 14
        assert row.result.text_sha256 == found.original.text_sha256
    assert found.original.kl_mean is None
    assert found.row("rtn-w4").baseline
    assert not found.row("gptq-w3").baseline
    assert found.best == min(found.measured, key=lambda name: found.measured[name].perplexity)


def _artifact(kept: Path, recipe: str) -> Path:
    (found,) = (path for path in kept.glob(f"{recipe}-*") if path.is_dir())
    return found


def test_what_was_done_is_not_done_again(model: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compress", "beside", "alone"):
        monkeypatch.setattr(f"intaglio.comparison.run.{name}", never)
    found = compare(request(model, kept, "rtn-w4", "gptq-w3", budget_bits=3.0))
    assert set(found.measured) == {"rtn-w4", "gptq-w3"}
    assert found.best is None
    assert all(row.over_budget for row in found.rows)


def test_another_text_is_measured_and_another_calibration_coded(
    model: Path, kept: Path, tmp_path: Path
) -> None:
    text = tmp_path / "other.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20)
    asked = request(model, kept, "rtn-w4", text=str(text))
    assert said(asked) == [f"rtn-w4: found in {_artifact(kept, 'rtn-w4')}"]
    assert compare(asked).original.text == "other.txt"
    (line,) = said(request(model, kept, "gptq-w3", calibration=(str(text),)))
    assert "bits per weight in" in line


def test_a_recipe_that_fails_is_a_row_and_the_others_go_on(model: Path, kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "hopeless.yaml"
    path.write_text(BROKEN)
    found = compare(request(model, kept, str(path), "rtn-w4"))
    failure = found.row("hopeless").failure
    assert failure is not None
    assert "above the recipe's limit" in failure
    assert list(found.measured) == ["rtn-w4"]


def test_a_mistake_in_ours_is_a_row_too(model: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.comparison.run.compress", lambda *args, **options: 1 / 0)
    found = compare(request(model, kept, "awq-w4"))
    assert found.row("awq-w4").failure == "unexpected ZeroDivisionError: division by zero"


def test_ctrl_c_ends_it_and_says_how_to_go_on(
    model: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("intaglio.comparison.run.compress", interrupted)
    with pytest.raises(InterruptedRunError, match="kept: the same command goes on"):
        compare(request(model, kept, "rtn-w4", "awq-w3"))


def never(*args: object, **options: object) -> None:
    raise AssertionError("not to be done")


def test_a_compressed_model_is_refused_before_anything_is_measured(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("compress", "beside", "alone"):
        monkeypatch.setattr(f"intaglio.comparison.run.{name}", never)
    asked = request(_artifact(kept, "rtn-w4"), tmp_path / "other", "rtn-w4", "gptq-w3")
    with pytest.raises(UsageError, match="compressed already: give the model it was made from"):
        compare(asked)
    assert not asked.kept.exists()


@pytest.mark.parametrize("changed", ["isa", "build", "processor"])
def test_another_machine_or_build_is_measured_and_nothing_coded_again(
    model: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """Not even the original is measured again where only our kernels changed: others run it."""
    directory = shutil.copytree(kept, tmp_path / "kept")
    asked = request(model, directory, "rtn-w4")
    before = compare(asked)
    other = run.machine() | {changed: "another"}
    monkeypatch.setattr(run, "machine", lambda: other)
    monkeypatch.setattr(run, "compress", never)
    if changed != "processor":
        monkeypatch.setattr(run, "alone", never)
    marked: list[float] = []

    def beside(subject: Subject, base: Subject, setting: Setting) -> tuple[Result, float]:
        result = msgspec.structs.replace(before.measured["rtn-w4"], decode_tokens_per_s=1.0)
        marked.append(result.decode_tokens_per_s)
        return result, 1.0

    monkeypatch.setattr(run, "beside", beside)
    assert compare(asked).measured["rtn-w4"].decode_tokens_per_s == 1.0
    assert compare(asked).measured["rtn-w4"].decode_tokens_per_s == 1.0
    assert len(marked) == 1


def test_the_machine_is_the_instruction_set_in_use_and_the_very_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = run.machine()
    monkeypatch.setenv("INTAGLIO_ISA", "scalar")
    assert run.machine() == found | {"isa": "scalar"}
    other = tmp_path / "_native.so"
    other.write_bytes(b"another build")
    monkeypatch.setattr("intaglio._native.__file__", str(other))
    assert run.machine()["build"] != found["build"]


def test_an_instruction_set_that_is_not_there_is_refused_before_any_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAGLIO_ISA", "z80")
    asked = request(model, tmp_path / "none", "rtn-w4")
    with pytest.raises(UsageError, match="INTAGLIO_ISA is 'z80'"):
        compare(asked)
    assert not asked.kept.exists()


def test_requests_that_make_no_sense(model: Path, kept: Path) -> None:
    with pytest.raises(UsageError, match="did you mean rtn-w4"):
        compare(request(model, kept, "rtn-w44"))
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(request(model, kept))
    with pytest.raises(UsageError, match="positions"):
        compare(request(model, kept, "rtn-w4", seq_len=5000))


def test_all_are_all_that_are_shipped() -> None:
    recipes = Request(model="m", recipes=("all",)).loaded()
    assert {"rtn-w4", "qserve"} <= set(recipes)


def arguments(model: Path, directory: Path) -> list[str]:
    changes = [part for change in SET for part in ("--set", change)]
    shared = ["--windows", "2", "--seq-len", "48", "--threads", "1", "--rounds", "1", *changes]
    return ["compare", str(model), "--recipes", "rtn-w4,gptq-w3", "-d", str(directory), *shared]


def test_a_killed_comparison_goes_on(model: Path, kept: Path, tmp_path: Path) -> None:
    """Killed when the first recipe is done: it is found, and the numbers are those of an undisturbed run."""
    directory = tmp_path / "killed"
    directory.mkdir()
    for numbers in kept.glob("original.*.json"):  # spares its measurement
        shutil.copy(numbers, directory)
    command = [sys.executable, "-m", "intaglio", *arguments(model, directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        process.stderr.readline()
        process.send_signal(signal.SIGKILL)
    lines = said(request(model, directory, "rtn-w4", "gptq-w3"))
    assert lines[0].startswith("rtn-w4: found in")
    again, whole = (compare(request(model, place, "rtn-w4", "gptq-w3")) for place in (directory, kept))
    for name, found in whole.measured.items():
        assert again.measured[name].perplexity == found.perplexity
        assert again.measured[name].bytes == found.bytes


def test_the_verb_prints_a_table_or_json_and_writes_the_page(model: Path, kept: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli.app, arguments(model, kept))
    assert shown.exit_code == 0, shown.output
    assert "gptq-w3" in shown.stdout
    assert f"page: {kept / 'report.html'}" in shown.stderr
    assert "<figure" in (kept / "report.html").read_text()
    page = tmp_path / "page.html"
    printed = CliRunner().invoke(cli.app, [*arguments(model, kept), "--json", "--quiet", "--html", str(page)])
    record = json.loads(printed.stdout)
    assert [row["recipe"] for row in record["rows"]] == ["rtn-w4", "gptq-w3"]
    assert record["rows"][0]["commands"][0].startswith("intaglio compress ")
    assert printed.stderr == ""
    assert page.exists()


def test_check_fails_when_a_claim_does(model: Path, kept: Path, tmp_path: Path) -> None:
    claims = {
        "modest": Claim(metric="perplexity", within=9.0),
        "boastful": Claim(metric="bits_per_weight", better_than="modest"),  # and has as many
    }
    for name, claim in claims.items():
        recipe = msgspec.structs.replace(load_recipe("rtn-w4"), name=name, claims=(claim,))
        (tmp_path / f"{name}.yaml").write_text(dump_recipe(recipe))
    modest, both = f"{tmp_path}/modest.yaml", f"{tmp_path}/modest.yaml,{tmp_path}/boastful.yaml"
    for recipes, options, code in ((modest, ["--check"], 0), (both, [], 0), (both, ["--check"], 1)):
        command = [*arguments(model, kept), "--quiet", "--recipes", recipes, *options]
        assert CliRunner().invoke(cli.app, command).exit_code == code


def test_check_refuses_recipes_whose_claims_it_could_not_examine(
    model: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any work; those are named that their claims name, and again those that theirs do."""
    monkeypatch.setattr(run, "open_checkpoint", never)
    with pytest.raises(UsageError, match="that are not compared; add to --recipes: rtn-w3,rtn-w4"):
        compare(request(model, kept, "awq-w3", check=True))
    done = CliRunner().invoke(cli.app, [*arguments(model, kept), "--check"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(": rtn-w3\n")


def test_the_commands_make_the_same_artifact(model: Path, kept: Path, tmp_path: Path) -> None:
    row = compare(request(model, kept, "gptq-w3")).row("gptq-w3")
    command = row.commands[0].split()[1:]
    place = command.index("--output") + 1
    made, command[place] = Path(command[place]), str(tmp_path / "again")
    done = CliRunner().invoke(cli.app, [*command, "--quiet"])
    assert done.exit_code == 0, done.output
    weights = "model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (made / weights).read_bytes()


def test_two_at_once_make_the_same_artifacts(model: Path, kept: Path, tmp_path: Path) -> None:
    """Each in a process of its own, one of which fails and says why."""
    hopeless = tmp_path / "hopeless.yaml"
    hopeless.write_text(BROKEN)
    names = ("rtn-w4", str(hopeless), "gptq-w3")
    lines: list[str] = []
    asked = request(model, tmp_path / "two", *names, jobs=2)
    found = compare(asked, say=lines.append)
    assert [row.recipe for row in found.rows] == ["rtn-w4", "hopeless", "gptq-w3"]
    failure = found.row("hopeless").failure
    assert failure is not None
    assert "above the recipe's limit" in failure
    assert sum("bits per weight in" in line for line in lines) == 2
    for name in ("rtn-w4", "gptq-w3"):
        made = _artifact(asked.kept, name)
        assert (made / "SHA256SUMS").read_text() == (kept / made.name / "SHA256SUMS").read_text()


def test_several_at_once_share_the_threads(model: Path) -> None:
    asked = Request(model=str(model), recipes=("rtn-w4",), threads=5, jobs=2)
    compress, measure = asked.commands("rtn-w4", Path("out"))
    assert compress.endswith("--threads 2")
    assert measure.endswith("--threads 5")


def test_ctrl_c_stops_those_that_run_and_the_same_command_goes_on(
    model: Path, kept: Path, tmp_path: Path
) -> None:
    """The signal reaches the comparison alone, as from `kill -INT`."""
    command = [sys.executable, "-m", "intaglio", *arguments(model, tmp_path), "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not any(tmp_path.iterdir()):  # a journal
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        said = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on" in said
    found = compare(request(model, tmp_path, "rtn-w4", "gptq-w3", jobs=2))
    assert len(found.measured) == 2


@pytest.mark.parametrize(
    ("ends", "says"),
    [("kill -9 $$", "killed by signal 9"), ("exit 3", "exit code 3"), ("echo error: no >&2; exit 1", "no")],
)
def test_a_process_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, says: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{ends}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (done,) = apart.run({"a": "intaglio compress"}, jobs=2)
    assert done.name == "a"
    assert says in (done.failure or "")

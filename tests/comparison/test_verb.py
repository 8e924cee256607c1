"""`intaglio compare`: what it prints, what it refuses, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from msgspec.structs import replace
from typer.testing import CliRunner

from intaglio.cli import app as cli
from intaglio.comparison import Comparison, Request
from intaglio.comparison.result import Verdict
from tests.comparison.small import comparison

Found = Callable[..., None]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Sets what a comparison finds; `then` is done when it has."""

    def be(whole: Comparison, then: Callable[[], Any] = lambda: None) -> None:
        def compare(request: Request, *_: object) -> Comparison:
            then()
            return whole

        monkeypatch.setattr("intaglio.comparison.compare", compare)

    return be


def run(place: Path, *args: str) -> Result:
    kept = () if "--directory" in args else ("--directory", str(place))
    command = ["compare", "model", "--recipes", "rtn-w4,rtn-w3", *kept, *args]
    return CliRunner().invoke(cli.app, command, prog_name="intaglio")


def whole(holds: bool | None = True) -> Comparison:
    """Every recipe came through; `holds`: their claims."""
    found = comparison()
    claims = (Verdict("perplexity below that of rtn-w3", holds),)
    return replace(found, rows=tuple(replace(row, claims=claims) for row in found.rows if row.result))


def test_a_recipe_that_failed_ends_it_with_1_and_the_table_stays(found: Found, tmp_path: Path) -> None:
    found(comparison())
    for quiet in ((), ("--quiet",)):
        done = run(tmp_path, *quiet)
        assert done.exit_code == 1
        assert "gptq-w3" in done.stdout
        assert done.stderr.endswith("error: 1 of 7 recipes failed: broken: its logits are <NaN>\n")


def test_nothing_measured_ends_it_with_1(found: Found, tmp_path: Path) -> None:
    rows = tuple(replace(row, result=None, failure="no", claims=()) for row in comparison().rows)
    found(replace(comparison(), rows=rows, best=None))
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "error: 7 of 7 recipes failed: rtn-w4: no; " in done.stderr


@pytest.mark.parametrize("holds", [True, False, None])
def test_without_check_claims_are_told_and_no_failure(
    found: Found, tmp_path: Path, holds: bool | None
) -> None:
    found(whole(holds))
    assert run(tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("holds", "code", "says"),
    [(True, 0, ""), (False, 1, "not borne out"), (None, 1, "not examined")],
    ids=["hold", "fail", "open"],
)
def test_check_wants_every_claim_borne_out(
    found: Found, tmp_path: Path, holds: bool | None, code: int, says: str
) -> None:
    found(whole(holds))
    done = run(tmp_path, "--check", "--quiet")
    assert done.exit_code == code
    assert says in done.stderr
    assert done.stderr.count("error: ") == code
    if code:
        assert "rtn-w4" in done.stderr
        assert "perplexity below that of rtn-w3" in done.stderr


def test_a_page_that_cannot_be_written_loses_nothing(found: Found, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found(whole(), page.mkdir)
    done = run(tmp_path, "--html", str(page))
    assert done.exit_code == 1
    assert "gptq-w3" in done.stdout
    assert "Least perplexity" in done.stderr
    assert done.stderr.endswith(f"error: {page}: is a directory\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--html", "HERE"), "--html: HERE is a directory, expected a file"),
        (("--html", "HERE/nowhere/page.html"), "--html: HERE/nowhere is no directory"),
        (("--directory", "HERE/file"), "--directory: HERE/file is a file, expected a directory"),
        (("--directory", "HERE/file/below"), "--directory: HERE/file is a file, expected a directory"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_any_work(
    found: Found, tmp_path: Path, args: tuple[str, ...], says: str
) -> None:
    def never() -> None:
        raise AssertionError("work was begun")

    (tmp_path / "file").touch()
    found(whole(), never)
    done = run(tmp_path, *(arg.replace("HERE", str(tmp_path)) for arg in args))
    assert done.exit_code == 2, done.output
    assert says.replace("HERE", str(tmp_path)) in done.stderr
    assert done.stdout == ""


def test_help_says_what_it_ends_with() -> None:
    text = " ".join(CliRunner().invoke(cli.app, ["compare", "--help"], prog_name="intaglio").stdout.split())
    assert "Ends with 1 if one fails" in text
    assert "recipes that claims name must be given too" in text

"""bench/systems.py: docs/systems.md from a comparison."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from msgspec.structs import replace

from intaglio.comparison import Comparison, Row
from intaglio.comparison.dominance import dominated_by
from intaglio.comparison.result import Verdict
from intaglio.comparison.table import table
from tests.comparison.small import comparison, result

SCRIPT = Path(__file__).parents[2] / "bench" / "systems.py"
NUMBERS = {
    "qserve": (4.45, 17.6),
    "gptq-w3": (4.46, 19.3),
    "awq-w3": (4.46, 23.7),
    "rtn-w3": (4.46, 40.0),
    "milo-w3": (4.47, 43.0),
}


@pytest.fixture(scope="module")
def systems() -> ModuleType:
    spec = importlib.util.spec_from_file_location("systems", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def found(**claims: tuple[Verdict, ...]) -> Comparison:
    """Of the recipes above; `claims` by recipe, with _ for -."""
    measured = {name: result(name, *numbers) for name, numbers in NUMBERS.items()}
    rows = tuple(
        Row(
            recipe=name,
            summary="",
            commands=(),
            result=measured[name],
            claims=claims.get(name.replace("-", "_"), ()),
            baseline=name.startswith("rtn"),
            dominated_by=dominated_by(name, measured),
        )
        for name in measured
    )
    failed = Row(recipe="spqr", summary="", commands=(), failure="no memory")
    return replace(comparison(), rows=(*rows, failed), budget_bits=None, best="qserve")


def verdicts(systems: ModuleType, compared: Comparison) -> dict[str, str]:
    """Recipe -> the last column of its row."""
    lines = [line.split(" | ") for line in systems.page(compared, "") if line.startswith("| `")]
    return {cells[0].strip("|` "): cells[-1].removesuffix(" |") for cells in lines}


def test_plain_rounding_that_dominates_is_named_behind_however_many(systems: ModuleType) -> None:
    said = verdicts(systems, found())
    assert found().row("milo-w3").dominated_by == ("qserve", "gptq-w3", "awq-w3", "rtn-w3")
    assert said["milo-w3"] == "dominated by qserve, rtn-w3"
    assert said["awq-w3"] == "dominated by qserve"
    assert said["qserve"] == "least perplexity"


def test_it_says_of_dominance_what_the_table_does(systems: ModuleType) -> None:
    said = verdicts(systems, found())
    for row in table(found()).rows[1:]:
        if row[0] in NUMBERS:
            assert said[row[0]] == row[-1]


@pytest.mark.parametrize(
    ("speed", "said"), [(250, "slower than rtn-w3"), (270, "frontier"), (400, "frontier")]
)
def test_fewer_bytes_that_do_not_pay_in_time_are_said_so(
    systems: ModuleType, speed: float, said: str
) -> None:
    """Of those that merely round the next larger counts: rtn-w3, at 290 tokens/s."""
    plain = [
        Row(recipe=name, summary="", commands=(), result=one, baseline=True)
        for name, one in {
            "rtn-w3": result("rtn-w3", 4.46, 40.0, decode_tokens_per_s=290.0),
            "rtn-w4": result("rtn-w4", 5.25, 18.0, decode_tokens_per_s=500.0),
        }.items()
    ]
    small = result("gqsa", 3.9, 300.0, decode_tokens_per_s=speed)
    rows = (Row(recipe="gqsa", summary="", commands=(), result=small), *plain)
    verdict = verdicts(systems, replace(comparison(), rows=rows, budget_bits=None, best="rtn-w4"))["gqsa"]
    assert verdict.endswith(said)


def test_a_claim_that_fails_or_is_open_stands_out(systems: ModuleType) -> None:
    claims = (Verdict("a", True), Verdict("b", False), Verdict("c", None))
    said = verdicts(systems, found(qserve=claims))
    assert said["qserve"] == "holds: a; **fails**: b; **open**: c; least perplexity"
    assert said["spqr"] == "**open**, the recipe failed: no memory"
    assert said["gptq-w4"] == "**open**, not in this run"


def test_what_compare_prints_is_read(
    systems: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "comparison.json"
    file.write_bytes(msgspec.json.encode(found()))
    monkeypatch.setattr(sys, "argv", ["systems.py", str(file), "--machine", "Two cores."])
    systems.main()
    printed = capsys.readouterr().out
    assert "Two cores." in printed
    assert "dominated by qserve, rtn-w3" in printed

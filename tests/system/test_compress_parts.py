"""The parts of a run that a whole run does not show: progress, limits, the journal's own checks."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from intaglio.compression import Event, blocks, console
from intaglio.compression.activations import Activations, store
from intaglio.compression.journal import Journal
from intaglio.compression.report import Verification
from intaglio.compression.verify import fault
from intaglio.errors import IntaglioError
from intaglio.formats import Integer
from intaglio.recipe import Limits, load_recipe
from intaglio.solvers import Clip, Prune
from intaglio.terms import NM, Dense, LowRank, Sparse, Term

FINE = Verification(
    perplexity=20.0,
    original_perplexity=10.0,
    kl_mean=0.5,
    kl_max=2.0,
    top1_agreement=0.9,
    windows=4,
    seq_len=256,
    text="pydoc",
)


@pytest.mark.parametrize("name", ["ptqtp", "hqq-w3", "hqq-w4", "milo", "milo-w3"])
def test_no_text_is_drawn_for_solvers_that_read_none(name: str) -> None:
    assert not any(map(blocks.needs_metric, load_recipe(name).weights))
    for weighted in ("ptqtp-weighted", "milo-weighted"):
        assert all(map(blocks.needs_metric, load_recipe(weighted).weights))


@pytest.mark.parametrize(
    ("term", "reads"),
    [(Sparse(0.5), False), (NM(2, 4), False), (Dense(Integer(4)), False), (LowRank(4), True)],
)
def test_pruning_by_magnitude_reads_text_only_for_what_it_does_not_prune(term: Term, reads: bool) -> None:
    assert Prune("magnitude").reads_inputs((term,), None) == reads
    assert Prune("magnitude").reads_inputs((term,), Clip())
    assert Prune("wanda").reads_inputs((Sparse(0.5), term), None)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_plain_lines_say_what_is_left(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with console(stream) as progress:
        for done in range(3):
            progress(Event(done, 2, f"step {done}"))
    first, second, third = stream.getvalue().splitlines()
    assert first == "[0/2] step 0"
    assert second.startswith("[1/2, ")
    assert second.endswith(" s left] step 1")
    assert third == "[2/2] step 2"


def test_a_terminal_gets_a_bar_without_colour_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with console(stream) as progress:
        progress(Event(1, 2, "layer [0] done"))
    assert "1/2" in stream.getvalue()
    assert "layer [0] done" in stream.getvalue()
    assert "\x1b[3" not in stream.getvalue()


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with console() as progress:
        progress(Event(0, 1, "here"))
    assert capsys.readouterr() == ("", "[0/1] here\n")
    assert sys.stderr


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"perplexity": float("nan")}, "not finite"),
        ({"perplexity": float("inf")}, "not finite"),
        ({"kl_mean": float("nan")}, "not finite"),
        ({"kl_mean": 3.5}, "mean KL from the original is 3.50, above the recipe's limit of 3"),
        ({"perplexity": 101.0}, "perplexity is 101.0, more than 10 times the original's 10.0"),
    ],
)
def test_what_counts_as_broken(changes: dict[str, float], expected: str | None) -> None:
    found = fault(structs.replace(FINE, **changes), Limits())
    assert found is None if expected is None else expected in (found or "")


def test_activations_come_back_in_order_and_in_every_bit(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    batches = [torch.randn(2, 3, 5) for _ in range(11)]
    store(tmp_path / "a", iter(batches))
    found = Activations(tmp_path / "a")
    assert len(found) == 11
    assert all(torch.equal(one, other) for one, other in zip(found, batches, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 0, "a": "1"}', "\x00"])
def test_a_damaged_journal_is_refused(tmp_path: Path, content: str) -> None:
    journal = Journal(tmp_path / "out")
    journal.path.mkdir()
    (journal.path / "journal.json").write_text(content)
    with (
        pytest.raises(IntaglioError, match=r"no journal\.json of this version"),
        journal.begun({"a": "1"}, resume=True),
    ):
        pass
    assert journal.path.exists()


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out")
    with journal.begun({"a": "1"}, resume=False):
        journal.block(0).write_bytes(b"")
    (journal.path / ".half.tmp").write_text("x")
    for layer in range(3):
        journal.activations(layer).mkdir()
        np.save(journal.activations(layer) / "0.npy", np.zeros(1))
    with journal.begun({"a": "1"}, resume=True) as finished:
        assert finished == 1
        left = sorted(path.name for path in journal.path.iterdir())
    assert left == ["activations-00001", "block-00000.safetensors", "journal.json"]

"""Speeds are measured in turn, round by round, and a round that was made is not made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.comparison import rounds
from intaglio.comparison.rounds import Timed, settled
from intaglio.errors import IntaglioError
from intaglio.evaluation import speed
from intaglio.evaluation.measure import silent
from tests.comparison.small import result


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured; each time faster, and `broken` never again."""
    seen: list[str] = []

    def measure(job: speed.Job) -> speed.Speed:
        seen.append(job.model)
        if job.model == "broken":
            raise IntaglioError("no memory")
        count = float(len(seen))
        return speed.Speed(100 * count, 10 * count, int(count), None)

    monkeypatch.setattr(rounds.speed, "measure", measure)
    return seen


def subjects(directory: Path, *names: str) -> list[Timed]:
    return [Timed(name, result(name, 4.0, 20.0), directory / f"{name}.json") for name in names]


def test_all_are_measured_in_turn_and_medians_are_told(tmp_path: Path, order: list[str]) -> None:
    given = subjects(tmp_path, "a", "b")
    found = settled(given, 3, [1, 2], silent)
    assert order == ["a", "b", "a", "b"]
    first = given[0].result.decode_tokens_per_s
    assert [one.decode_tokens_per_s for one in found] == [
        sorted(x)[1] for x in ((first, 10, 30), (first, 20, 40))
    ]
    assert [one.perplexity for one in found] == [one.result.perplexity for one in given]


def test_what_was_measured_is_not_measured_again(tmp_path: Path, order: list[str]) -> None:
    found = settled(subjects(tmp_path, "a", "b"), 3, [1, 2], silent)
    assert settled(subjects(tmp_path, "a", "b"), 3, [1, 2], silent) == found
    assert len(order) == 4
    settled(subjects(tmp_path, "a", "b", "c"), 4, [1, 2], silent)
    assert order[4:] == ["c", "c", "a", "b", "c"]


def test_a_round_is_the_numbers_own(tmp_path: Path, order: list[str]) -> None:
    given = subjects(tmp_path, "a")
    assert settled(given, 1, [1, 2], silent) == [given[0].result]
    assert not order
    assert not any(tmp_path.iterdir())


def test_a_round_that_fails_leaves_the_others(tmp_path: Path, order: list[str]) -> None:
    given = subjects(tmp_path, "broken", "a")
    broken, whole = settled(given, 2, [1, 2], silent)
    assert broken == given[0].result
    assert whole.decode_tokens_per_s != given[1].result.decode_tokens_per_s

"""Logits that are asked for again are those that were computed, and nothing stays on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from intaglio.comparison import remembered
from intaglio.comparison.remembered import Remembered
from intaglio.evaluation.runtime import Name, Seconds
from intaglio.types import Array


class Counted:
    """Logits that tell how often they were asked for."""

    name: Name = "native"
    dtype = "float32"
    threads = 1
    libraries: tuple[str, ...] = ("numpy",)
    asked = 0

    def logits(self, tokens: Array) -> Array:
        self.asked += 1
        return np.outer(tokens, np.arange(self.asked, 7 + self.asked)).astype(np.float32)

    def time(self, prompt: Sequence[int], tokens: int) -> Seconds:
        return Seconds(float(len(prompt)), (1.0,) * (tokens - 1))


WINDOWS = [np.arange(start, start + 5, dtype=np.int32) for start in (0, 5, 1)]


def test_each_window_is_computed_once(tmp_path: Path) -> None:
    model = Counted()
    twice = Remembered(model, tmp_path / "made" / "when needed")
    first = [twice.logits(window).copy() for window in WINDOWS]
    again = [twice.logits(window.copy()) for window in reversed(WINDOWS)][::-1]
    assert model.asked == 3
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert not any((tmp_path / "made" / "when needed").iterdir())


def test_without_room_they_are_computed_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SPARE", 1 << 60)
    model = Counted()
    twice = Remembered(model, tmp_path)
    for _ in range(2):
        twice.logits(WINDOWS[0])
    assert model.asked == 2


def test_it_is_the_model_in_all_else(tmp_path: Path) -> None:
    twice = Remembered(Counted(), tmp_path)
    assert (twice.name, twice.dtype, twice.threads, twice.libraries) == ("native", "float32", 1, ("numpy",))
    assert twice.time([1, 2], 3) == Seconds(2.0, (1.0, 1.0))

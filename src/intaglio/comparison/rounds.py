"""Rounds: speeds of many models, in turn and several times, so that a slow minute is nobody's alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from msgspec.structs import asdict, replace

from intaglio.comparison.store import keep, recall
from intaglio.errors import IntaglioError
from intaglio.evaluation import Result, speed
from intaglio.evaluation.measure import Progress
from intaglio.evaluation.runtime import Name


class Timed(NamedTuple):
    """A model as it is opened, its numbers, and where the speeds of its rounds are kept."""

    ref: str
    result: Result
    kept: Path


def settled(subjects: Sequence[Timed], rounds: int, prompt: list[int], progress: Progress) -> list[Result]:
    """Their numbers with the medians of so many rounds, of which the first is the numbers' own.

    What is kept is not done again; a round that fails leaves its model with fewer.
    """
    found = [recall(one.kept, list[speed.Speed]) or [_first(one.result)] for one in subjects]
    for done in range(1, rounds):
        for count, (one, speeds) in enumerate(zip(subjects, found, strict=True), 1):
            progress(f"timing, round {done + 1}", count, len(subjects))
            if len(speeds) > done:
                continue
            with suppress(IntaglioError):
                job = speed.Job(one.ref, cast(Name, one.result.runtime), one.result.threads, prompt)
                speeds.append(speed.measure(job))
                keep(one.kept, speeds)
    medians = (asdict(speed.medians(speeds[:rounds])) for speeds in found)
    return [replace(one.result, **median) for one, median in zip(subjects, medians, strict=True)]


def _first(result: Result) -> speed.Speed:
    return speed.Speed(**{field: getattr(result, field) for field in speed.Speed.__struct_fields__})

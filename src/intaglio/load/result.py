"""Result: everything measured in one run. As JSON one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from intaglio.load.environment import Environment
from intaglio.load.objectives import Objectives
from intaglio.load.record import Record
from intaglio.load.statistics import Distribution, Statistics, distribution, statistics


class Client(msgspec.Struct, frozen=True):
    """What the load tool itself was like: its share of one core, and how long after they were due requests
    of a schedule were sent (with a limit on those at once: waited for their place).
    """

    cpu_share: float
    late_ms: Distribution | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`overall`: all requests; `parts`: those of each part of a mix. `unfinished` ones are in neither.

    `concurrency`: requests under way, on average. `notes`: what the numbers do not say.
    """

    url: str
    endpoint: str
    model: str
    duration_s: float
    interrupted: bool
    unfinished: int
    concurrency: float
    overall: Statistics
    parts: dict[str, Statistics]
    client: Client
    settings: dict[str, Any]
    environment: Environment
    notes: list[str]


def parted(
    names: Sequence[str], records: Sequence[Record], seconds: float, objectives: Objectives
) -> dict[str, Statistics]:
    """Part -> its requests; nothing where there is one part only."""
    if len(names) < 2:
        return {}
    return {
        name: statistics([one for one in records if one.part == name], seconds, objectives) for name in names
    }


def concurrency(records: Sequence[Record], seconds: float) -> float:
    """Requests under way, on average over the run."""
    return sum(one.ended_s - one.sent_s for one in records) / seconds


def lateness(records: Sequence[Record]) -> Distribution | None:
    return distribution((one.sent_s - one.due_s) * 1e3 for one in records)

"""Request: the model, the candidates, and what the result may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from intaglio.errors import UsageError
from intaglio.recipe import Calibration
from intaglio.search.candidates import DEFAULT


@dataclass(frozen=True, kw_only=True)
class Request:
    """Limits that are None do not bind; `max_ppl_increase` alone makes the result as small as it can be.

    `max_size`: bytes of all weights. `max_bits`: per weight of the original. `max_ppl_increase`: relative, as
    predicted. `min_speed`: tokens a second of decoding, as predicted from kernel times.
    `windows` more windows of the calibration text than `calibration` has measure the losses.
    """

    model: str
    candidates: tuple[str, ...] = DEFAULT
    max_size: float | None = None
    max_bits: float | None = None
    max_ppl_increase: float | None = None
    min_speed: float | None = None
    text: tuple[str, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    windows: int = 2
    threads: int | None = None
    directory: Path | None = None  # what is kept between runs
    command: str = ""

    def __post_init__(self) -> None:
        if all(limit is None for limit in self.limits.values()):
            raise UsageError(f"a search needs a limit: give one of {', '.join(self.limits)}")
        for name, limit in self.limits.items():
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise UsageError(f"{name}: {limit:g} is no limit, expected a positive number")
        if self.windows < 1:
            raise UsageError(f"--windows: {self.windows} measure no losses, expected at least 1")

    @property
    def limits(self) -> dict[str, float | None]:
        """By the options' names."""
        return {
            "--max-size": self.max_size,
            "--max-bits": self.max_bits,
            "--max-ppl-increase": self.max_ppl_increase,
            "--min-speed": self.min_speed,
        }

    @property
    def kept(self) -> Path:
        """Where measurements and results are kept."""
        return self.directory or Path("artifacts", "search", Path(self.model).name)

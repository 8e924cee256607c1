"""Request: what is to be compared, and on what; and the commands that do the same one by one."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from intaglio.comparison.claims import missing
from intaglio.engine.executor import count_threads
from intaglio.errors import UsageError
from intaglio.recipe import Recipe, load_recipe, shipped_names

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Request:
    """`recipes`: names or YAML files; "all" stands for those that are shipped.

    `calibration`, `samples` and `set` change every recipe alike; None leaves each its own. `text`: None is
    the evaluation half of the text every Python ships. `budget_bits`: more bits a weight are out of question.
    `rounds`: how often speeds are measured, all models in turn. `check`: what claims name must be among
    the recipes.
    """

    model: str
    recipes: tuple[str, ...]
    calibration: tuple[str, ...] = ()
    samples: int | None = None
    set: tuple[str, ...] = ()
    text: str | None = None
    windows: int = 24
    seq_len: int = 512
    budget_bits: float | None = None
    rounds: int = 3
    check: bool = False
    threads: int | None = None
    jobs: int = 1  # recipes carried out at once; they share the threads
    directory: Path | None = None  # what is kept between runs
    command: str = ""

    @property
    def kept(self) -> Path:
        """Where artifacts and measurements are kept."""
        return self.directory or Path("artifacts", "compare", Path(self.model).name)

    @property
    def overrides(self) -> tuple[str, ...]:
        """What every recipe is read with."""
        samples = () if self.samples is None else (f"calibration.samples={self.samples}",)
        return (*self.set, *samples)

    def loaded(self) -> dict[str, Recipe]:
        """What was given -> the recipe; a mistake is found before any work."""
        given = [name for one in self.recipes for name in (shipped_names() if one == ALL else (one,))]
        found = {name: load_recipe(name, self.overrides) for name in given}
        if not found:
            raise UsageError("nothing to compare: give recipes, as in --recipes rtn-w4,gptq-w4, or all")
        twice = [name for name, count in Counter(r.name for r in found.values()).items() if count > 1]
        if twice:
            raise UsageError(f"two different recipes are called {twice[0]}: give one of them another name")
        if self.check and (lacking := missing(found.values())):
            raise UsageError(
                f"--check: claims name recipes that are not compared; add to --recipes: {','.join(lacking)}"
            )
        return found

    @property
    def coding_threads(self) -> int | None:
        """Those of one recipe; None: all there are."""
        return self.threads if self.jobs == 1 else max(1, count_threads(self.threads) // self.jobs)

    def commands(self, recipe: str, artifact: Path) -> tuple[str, str]:
        """How one recipe's artifact and its numbers are made without this comparison."""
        compress = ["intaglio", "compress", self.model, "--recipe", recipe, "--output", str(artifact)]
        for text in self.calibration:
            compress += ["--calibration", text]
        if self.samples is not None:
            compress += ["--samples", str(self.samples)]
        for change in self.set:
            compress += ["--set", change]
        measure = ["intaglio", "eval", str(artifact), "--against", self.model]
        measure += ["--text", self.text] if self.text else []
        measure += ["--windows", str(self.windows), "--seq-len", str(self.seq_len)]
        compress += _threads(self.coding_threads)
        return shlex.join(compress), shlex.join([*measure, *_threads(self.threads)])


def _threads(count: int | None) -> list[str]:
    return [] if count is None else ["--threads", str(count)]

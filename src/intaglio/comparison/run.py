"""The comparison: every recipe carried out, then everything measured; nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from intaglio.comparison import apart
from intaglio.comparison.claims import judge
from intaglio.comparison.dominance import dominated_by, rounds_to_nearest
from intaglio.comparison.machine import machine
from intaglio.comparison.remembered import Remembered
from intaglio.comparison.request import Request
from intaglio.comparison.result import Comparison, Row
from intaglio.comparison.rounds import Timed, settled
from intaglio.comparison.store import Store, keep, recall
from intaglio.compression import Event, InterruptedRunError, compress, plan
from intaglio.compression.report import Report, versions
from intaglio.engine.executor import count_threads
from intaglio.errors import IntaglioError
from intaglio.evaluation import Result, runtime
from intaglio.evaluation.measure import Progress, Setting, Subject, alone, beside, prompt, sample_text, silent
from intaglio.models import artifact, open_checkpoint, texts
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import Recipe, dump_coding

Say = Callable[[str], None]
T = TypeVar("T")


def compare(request: Request, progress: Progress = silent, say: Say = lambda line: None) -> Comparison:
    """All recipes of the request on its model. One that fails is a row that says why."""
    recipes = request.loaded()
    checkpoint = open_checkpoint(request.model)
    plan.check_weights(checkpoint)
    sample = sample_text(checkpoint, request.text, request.windows, request.seq_len)
    setting = Setting(sample, count_threads(request.threads), progress)
    run = Run(request, checkpoint, setting, machine(), say)
    try:
        rows = run.coded(recipes)
        original = run.original()
        rows = [run.measured(row, recipe) for row, recipe in zip(rows, recipes.values(), strict=True)]
        original, rows = run.timed(original, rows, list(recipes.values()))
    except (KeyboardInterrupt, InterruptedRunError):
        kept = f"what is done is kept in {request.kept}: the same command goes on"
        raise InterruptedRunError(f"interrupted; {kept}") from None
    return _judged(run, original, rows, list(recipes.values()))


@dataclass(frozen=True)
class Run:
    """A comparison being carried out."""

    request: Request
    checkpoint: Checkpoint
    setting: Setting
    machine: Mapping[str, str]
    say: Say

    @cached_property
    def store(self) -> Store:
        return Store(self.request.kept)

    @cached_property
    def base(self) -> Subject:
        """The original, opened once and only if something is to be measured."""
        seq_len = len(self.setting.sample.windows[0])
        opened = runtime.open_runtime(self.checkpoint, None, self.setting.threads, seq_len)
        return Subject(self.request.model, self.checkpoint, Remembered(opened, self.request.kept))

    def coded(self, recipes: Mapping[str, Recipe]) -> list[Row]:
        """The recipes carried out, those that were not before."""
        paths = {given: self.artifact(recipe) for given, recipe in recipes.items()}
        rows = {given: self._row(given, recipe, paths[given]) for given, recipe in recipes.items()}
        missing = {given: path for given, path in paths.items() if not path.exists()}
        for given, path in paths.items():
            if given not in missing:
                self.say(f"{rows[given].recipe}: found in {path}")
        work = self._here if self.request.jobs == 1 else self._apart
        for given, failure, seconds in work(missing):
            name = rows[given].recipe
            if failure is None:
                self.say(
                    f"{name}: {_report(paths[given]).bits_per_weight:.2f} bits per weight in {seconds:.0f} s"
                )
            else:
                self.say(f"{name}: failed: {failure}")
                rows[given] = replace(rows[given], failure=failure)
        return list(rows.values())

    def measured(self, row: Row, recipe: Recipe) -> Row:
        """The row with its numbers, unless there is nothing to measure."""
        if row.failure is not None:
            return row
        path = self.artifact(recipe)
        found = _attempt(partial(self._numbers, path))
        if isinstance(found, str):
            self.say(f"{row.recipe}: failed: {found}")
            return replace(row, failure=found)
        self.say(f"{row.recipe}: perplexity {found.perplexity:.3f}")
        return replace(row, result=found, sites=_report(path).sites)

    def original(self) -> Result:
        """Its numbers; without them there is nothing to compare with."""
        path = self._kept_of_original
        return recall(path, Result) or keep(path, alone(self.base, self.setting))

    def timed(
        self, original: Result, rows: Sequence[Row], recipes: Sequence[Recipe]
    ) -> tuple[Result, list[Row]]:
        """The same with the speeds of several rounds."""
        subjects = [Timed(self.request.model, original, _speeds(self._kept_of_original))]
        for row, recipe in zip(rows, recipes, strict=True):
            if row.result is not None:
                path = self.artifact(recipe)
                subjects.append(Timed(str(path), row.result, _speeds(self._kept_of(path))))
        timed_on = prompt(self.checkpoint, self.setting.sample)
        original, *found = settled(subjects, self.request.rounds, timed_on, self.setting.progress)
        results = iter(found)
        return original, [row if row.result is None else replace(row, result=next(results)) for row in rows]

    def artifact(self, recipe: Recipe) -> Path:
        """Where the recipe's artifact belongs: the key is all its codes depend on, but for the processor."""
        calibration = self.request.calibration or (recipe.calibration.text,)
        depends_on = {
            "model": self.checkpoint.fingerprint,
            "recipe": dump_coding(recipe),
            "calibration": texts.fingerprint(texts.documents(calibration)),
            "versions": versions(),
        }
        return self.store.artifact(recipe.name, depends_on)

    @cached_property
    def _measurement(self) -> Mapping[str, object]:
        """What the original's numbers depend on: transformers runs it, so not on our kernels."""
        sample = self.setting.sample
        return {
            "model": self.checkpoint.fingerprint,
            "text": sample.sha256,
            "windows": len(sample.windows),
            "seq_len": len(sample.windows[0]),
            "threads": self.setting.threads,
            "versions": runtime.versions(runtime.Transformers.libraries),
            "processor": self.machine["processor"],
        }

    @property
    def _kept_of_original(self) -> Path:
        return self.store.numbers("original", self._measurement)

    def _kept_of(self, artifact: Path) -> Path:
        return self.store.numbers(artifact.name, {**self._measurement, "machine": self.machine})

    def _row(self, given: str, recipe: Recipe, path: Path) -> Row:
        """The recipe's row before anything is known of it."""
        return Row(
            recipe=recipe.name,
            summary=recipe.summary,
            commands=self.request.commands(given, path),
            baseline=rounds_to_nearest(recipe),
        )

    def _here(self, missing: Mapping[str, Path]) -> Iterator[apart.Done]:
        """Carried out one after another, in this process."""
        for given, path in missing.items():
            started = time.monotonic()
            done = _attempt(partial(self._compress, given, path))
            failure = done if isinstance(done, str) else None
            yield apart.Done(given, failure, time.monotonic() - started)

    def _apart(self, missing: Mapping[str, Path]) -> Iterator[apart.Done]:
        """Carried out by processes of their own, several at once."""
        commands = {given: self.request.commands(given, path)[0] for given, path in missing.items()}
        for count, done in enumerate(apart.run(commands, self.request.jobs), 1):
            self.setting.progress("compressing", count, len(missing))
            yield done

    def _compress(self, given: str, path: Path) -> Report:
        request = self.request

        def show(event: Event) -> None:
            self.setting.progress(f"compressing {Path(given).stem}", event.done, event.total)

        return compress(
            self.checkpoint,
            given,
            path,
            calibration=request.calibration or None,
            set=request.overrides,
            resume=True,
            threads=request.threads,
            progress=show,
        )

    def _numbers(self, path: Path) -> Result:
        """An artifact's numbers, measured unless they were kept."""
        kept = self._kept_of(path)
        if found := recall(kept, Result):
            return found
        coded = open_checkpoint(path)
        seq_len = len(self.setting.sample.windows[0])
        opened = runtime.open_runtime(coded, None, self.setting.threads, seq_len)
        subject = Subject(str(path), coded, opened)
        return keep(kept, beside(subject, self.base, self.setting)[0])


def _speeds(numbers: Path) -> Path:
    """Where the speeds are kept that belong to these numbers."""
    return numbers.with_suffix(".speeds.json")


def _report(path: Path) -> Report:
    """An artifact's."""
    return msgspec.json.decode((path / artifact.REPORT).read_bytes(), type=Report)


def _attempt(work: Callable[[], T]) -> T | str:
    """What came of it, or why nothing did: one recipe must not end a night's run, whatever ails it."""
    try:
        return work()
    except InterruptedRunError:
        raise
    except IntaglioError as error:
        return str(error)
    except Exception as error:
        return f"unexpected {type(error).__name__}: {error}"


def _judged(run: Run, original: Result, rows: list[Row], recipes: list[Recipe]) -> Comparison:
    """What the numbers say beside each other."""
    measured = {row.recipe: row.result for row in rows if row.result is not None}
    budget = run.request.budget_bits
    within = [name for name, found in measured.items() if budget is None or found.bits_per_weight <= budget]
    judged = tuple(
        row
        if row.result is None
        else replace(
            row,
            claims=judge(recipe.claims, row.result, measured, original),
            dominated_by=dominated_by(row.recipe, measured),
            over_budget=row.recipe not in within,
        )
        for row, recipe in zip(rows, recipes, strict=True)
    )
    texts_used = run.request.calibration or tuple(dict.fromkeys(r.calibration.text for r in recipes))
    return Comparison(
        model=run.request.model,
        command=run.request.command,
        original=original,
        rows=judged,
        budget_bits=budget,
        best=min(within, key=lambda name: measured[name].perplexity, default=None),
        calibration=", ".join(texts_used),
        versions=versions(),
    )

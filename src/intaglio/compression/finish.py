"""The end of a run: the artifact, written, read back, compared with its original, and reported on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from intaglio import terms
from intaglio.compression import outer
from intaglio.compression.activations import Activations
from intaglio.compression.blocks import Block
from intaglio.compression.calibration import Windows
from intaglio.compression.journal import Journal
from intaglio.compression.plan import Plan
from intaglio.compression.report import CalibrationReport, Report, SiteReport, versions
from intaglio.compression.stored import read_block
from intaglio.compression.verify import coverage, parameters, verify
from intaglio.errors import IntaglioError
from intaglio.models import artifact
from intaglio.recipe import dump_recipe
from intaglio.terms import Coded
from intaglio.types import Array


class BrokenError(IntaglioError):
    """The artifact is there, and is not what a compressed model should be."""

    def __init__(self, report: Report, fault: str) -> None:
        super().__init__(fault)
        self.report = report


@dataclass(frozen=True)
class Finished:
    """Everything an artifact is made of."""

    plan: Plan
    windows: Windows | None
    journal: Journal
    threads: int | None

    @cached_property
    def outside(self) -> Block:
        """What lies outside the layers and was changed."""
        hidden = Activations(self.journal.activations(self.plan.coding.spec.num_layers))
        return outer.code(self.plan.coding, self.plan.checkpoint, hidden)

    def linears(self) -> Iterator[tuple[str, Coded]]:
        """Every matrix by its full name, one block at a time."""
        source = self.plan.checkpoint.linears
        yield from self.outside.linears.items()
        for name in (
            n for n in source if n not in self.outside.linears and not n.startswith("model.layers.")
        ):
            yield name, source[name]
        for layer in range(self.plan.coding.spec.num_layers):
            yield from read_block(self.journal.result(layer)).linears.items()

    def vectors(self) -> dict[str, Array]:
        """Every norm's gain by its full name."""
        found = {**self.plan.checkpoint.vectors, **self.outside.vectors}
        for layer in range(self.plan.coding.spec.num_layers):
            found |= read_block(self.journal.result(layer)).vectors
        return found

    def report(self, directory: Path) -> Report:
        """What is to be said of the artifact in `directory`; an error if nobody should use it."""
        coded, plan = artifact.read(directory, verify=False), self.plan
        count = parameters(plan.checkpoint)
        report = Report(
            model=plan.checkpoint.name,
            recipe=plan.recipe.name,
            versions=versions(),
            transforms=plan.transforms,
            calibration=self._calibration(),
            coverage=coverage(plan.checkpoint, coded, plan.coding.rules),
            sites=tuple(self._sites()),
            bits_per_weight=8 * coded.nbytes / count,
            original_bits_per_weight=8 * plan.checkpoint.nbytes / count,
            nbytes=coded.nbytes,
            verification=verify(plan.checkpoint, coded, plan.recipe.limits, self.threads),
        )
        if report.verification.fault:
            raise BrokenError(report, report.verification.fault)
        return report

    def _sites(self) -> Iterator[SiteReport]:
        for name, coded in self.linears():
            if name in self.plan.coding.rules:
                bits = terms.nbits(coded) / (coded.shape[0] * coded.shape[1])
                notes = dict(coded.notes)
                yield SiteReport(name=name, bits_per_weight=bits, error=notes.pop("error"), notes=notes)

    def _calibration(self) -> CalibrationReport | None:
        if self.windows is None:
            return None
        count, seq_len = self.windows.tokens.shape
        seed = self.plan.recipe.calibration.seed
        return CalibrationReport(
            text=self.windows.name, fingerprint=self.windows.text, windows=count, seq_len=seq_len, seed=seed
        )


def finish(made: Finished, output: Path, *, force: bool) -> Report:
    """The artifact appears at `output` when it is whole and verified; a broken one stands `aside` instead."""
    try:
        return _write(made, output, made.report, force=force)
    except BrokenError as broken:
        report = broken.report
    return _write(made, aside(output), lambda directory: report, force=True)


def aside(output: Path) -> Path:
    """Where a broken result is kept."""
    return output.with_name(f"{output.name}.broken")


def _write(made: Finished, path: Path, report: Callable[[Path], Report], *, force: bool) -> Report:
    told: list[Report] = []

    def tell(directory: Path) -> Report:
        told.append(report(directory))
        return told[0]

    plan = made.plan
    artifact.write(
        path,
        config=plan.checkpoint.config,
        spec=plan.checkpoint.spec,
        linears=made.linears(),
        vectors=made.vectors(),
        files=plan.checkpoint.files,
        recipe_text=dump_recipe(plan.recipe),
        report=tell,
        cache=_cache(plan),
        force=force,
    )
    return told[0]


def _cache(plan: Plan) -> dict[str, Any] | None:
    """The cache's codec as the executor reads it."""
    codec = plan.recipe.cache
    return None if codec is None else {**msgspec.to_builtins(codec), "bits": codec.bits}

"""The run: from a model and a recipe to a verified artifact, block by block, resumable after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from intaglio.compression import activations, blocks, outer, plan
from intaglio.compression.activations import Activations
from intaglio.compression.blocks import Block
from intaglio.compression.calibration import Text, Windows, draw
from intaglio.compression.finish import Finished, aside, finish
from intaglio.compression.journal import Fingerprint, Journal
from intaglio.compression.plan import Plan
from intaglio.compression.progress import Event, Progress, silent
from intaglio.compression.report import Report, versions
from intaglio.compression.stored import write_block
from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.models import open_checkpoint, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.durable import check_free, restore
from intaglio.recipe import dump_recipe, load_recipe

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

BATCH = 4096  # tokens that go through a block together, about


class InterruptedRunError(IntaglioError):
    """Stopped by Ctrl-C."""

    exit_code = 130


def compress(
    model: str | Path | Checkpoint,
    recipe: str | Path,
    output: str | Path,
    *,
    calibration: Text | None = None,
    samples: int | None = None,
    seq_len: int | None = None,
    seed: int | None = None,
    set: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compress `model` by `recipe` into the directory `output`, and verify what was written.

    `calibration`: a .txt or .jsonl file, "pydoc" (the default text), or several of these. `set`: overrides
    of the recipe, `path=value`. `resume`: continue an unfinished run. `force`: replace what is at `output`.
    """
    started = time.monotonic()
    asked = {"samples": samples, "seq_len": seq_len, "seed": seed}
    overrides = [f"calibration.{key}={value}" for key, value in asked.items() if value is not None]
    chosen = load_recipe(recipe, [*set, *overrides])
    target = Path(output)
    restore(target)
    check_free(target, force=force)
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
    made = plan.make(checkpoint, chosen)
    plan.check_weights(checkpoint)
    run = Run(made, _windows(made, calibration), target, progress or silent)
    with working(threads), run.journal.begun(run.fingerprint, resume=resume) as finished, _explained(run):
        run.code(finished)
        run.say(made.coding.spec.num_layers, "writing the artifact and checking it against the original")
        report = finish(Finished(made, run.windows, run.journal, threads), target, force=force)
        run.journal.remove()
    if fault := report.verification.fault:
        raise IntaglioError(f"the compressed model is broken: {fault}; it is kept in {aside(target)}")
    return structs.replace(report, seconds=time.monotonic() - started)


@dataclass(frozen=True)
class Run:
    """A plan being carried out."""

    plan: Plan
    windows: Windows | None  # None: nothing depends on a text
    output: Path
    progress: Progress

    @cached_property
    def journal(self) -> Journal:
        """What survives a kill."""
        return Journal(self.output)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Everything the bytes of the result depend on."""
        return {
            "model": self.plan.checkpoint.fingerprint,
            "recipe": dump_recipe(self.plan.recipe),
            "calibration text": self.windows.text if self.windows else "",
            "number of threads": str(torch.get_num_threads()),
            "processor": torch.backends.cpu.get_cpu_capability(),
            **{f"version of {name}": version for name, version in versions().items()},
        }

    def say(self, done: int, message: str) -> None:
        """`done` of the blocks are finished."""
        self.progress(Event(done, self.plan.coding.spec.num_layers, message))

    def code(self, finished: int) -> None:
        """Every block that is not finished yet."""
        self.say(finished, f"continuing after {finished} finished blocks" if finished else self._begin())
        inputs = self._inputs(finished)
        for layer in range(finished, self.plan.coding.spec.num_layers):
            started = time.monotonic()
            block, inputs = self._block(layer, inputs)
            self.say(layer + 1, f"layer {layer}: {blocks.errors(block)}, {time.monotonic() - started:.1f} s")

    def _begin(self) -> str:
        """What is about to happen."""
        text, count = "without a text", len(self.plan.coding.rules)
        if self.windows:
            windows, seq_len = self.windows.tokens.shape
            text = f"on {windows} windows of {seq_len} tokens of {self.windows.name}"
        return f"{self.plan.recipe.name}: {count} matrices of {self.plan.checkpoint.name}, {text}"

    def _block(self, layer: int, inputs: Sequence[Tensor]) -> tuple[Block, Sequence[Tensor]]:
        """One block, coded and in the journal, and what the next one reads."""
        coding, checkpoint = self.plan.coding, self.plan.checkpoint
        w = blocks.transformed(coding, layer, transformer.layer_weights(checkpoint, layer), inputs)
        block = blocks.code(coding, layer, w, inputs, checkpoint.linears)
        following = self._store(layer + 1, blocks.advanced(coding, layer, w, block, inputs))
        write_block(self.journal.block(layer), block)
        self.journal.forget(layer)
        return block, following

    def _inputs(self, layer: int) -> Sequence[Tensor]:
        """What block `layer` reads."""
        stored = self.journal.activations(layer)
        if stored.exists() or layer or not self.windows:
            return Activations(stored)
        coding = self.plan.coding
        w = outer.transformed(coding, transformer.outer_weights(self.plan.checkpoint))
        tokens, size = torch.from_numpy(self.windows.tokens), max(1, BATCH // self.windows.tokens.shape[1])
        batches = (tokens[start : start + size] for start in range(0, len(tokens), size))
        return self._store(0, (transformer.embed(coding.spec, w, batch) for batch in batches))

    def _store(self, layer: int, batches: Iterator[Tensor]) -> Sequence[Tensor]:
        """Keep what block `layer` reads, if anything reads it."""
        if not self.windows or layer == self.plan.coding.spec.num_layers:
            return ()
        return activations.store(self.journal.activations(layer), batches)


def _windows(made: Plan, text: Text | None) -> Windows | None:
    """The windows to observe, if the plan observes anything."""
    if not made.coding.observes:
        return None
    settings = made.recipe.calibration
    return draw(made.checkpoint, text or settings.text, settings)


@contextmanager
def working(threads: int | None) -> Iterator[None]:
    """Without gradients, on so many threads, and afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    """What stopped the run, and how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted{_kept(run.journal)}") from None
    except IntaglioError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise IntaglioError(f"{error}{_kept(run.journal)}") from error.__cause__


def _kept(journal: Journal) -> str:
    finished = journal.finished()
    return (
        f"; {finished} finished blocks are kept in {journal.path}: continue with --resume" if finished else ""
    )

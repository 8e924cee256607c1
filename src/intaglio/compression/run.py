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

from intaglio.compression import activations, blocks, fisher, outer, plan, search, tune
from intaglio.compression.activations import Activations
from intaglio.compression.blocks import Block
from intaglio.compression.calibration import Text, Windows, draw
from intaglio.compression.finish import Finished, aside, finish
from intaglio.compression.journal import Fingerprint, Journal
from intaglio.compression.plan import Plan
from intaglio.compression.progress import Event, Progress, silent
from intaglio.compression.report import Report, versions
from intaglio.compression.stored import write_block
from intaglio.compression.workers import Workers, workers
from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.models import open_checkpoint, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.durable import check_free, restore
from intaglio.recipe import Recipe, dump_coding, load_recipe
from intaglio.train import Tune

if TYPE_CHECKING:
    import torch

    from intaglio.models.transformer import Weights
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
    jobs: int = 1,
    distributed: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compress `model` by `recipe` into the directory `output`, and verify what was written.

    `calibration`: a .txt or .jsonl file, "pydoc" (the default text), or several of these. `set`: overrides
    of the recipe, `path=value`. `resume`: continue an unfinished run. `force`: replace what is at `output`.
    `jobs`: so many matrices of a block at once, each on `threads`. `distributed`: those on a Ray cluster, by
    its address, or "auto". The result is the same in every case.
    """
    started = time.monotonic()
    asked = {"samples": samples, "seq_len": seq_len, "seed": seed}
    overrides = [f"calibration.{key}={value}" for key, value in asked.items() if value is not None]
    chosen = load_recipe(recipe, [*set, *overrides])
    target = Path(output)
    restore(target)
    check_free(target, force=force)
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
    plan.check_weights(checkpoint)
    if chosen.search:
        chosen = _searched(checkpoint, chosen, calibration, threads, progress or silent)
    made = plan.make(checkpoint, chosen)
    run = Run(made, _windows(made, calibration), target, progress or silent)
    with working(threads), run.journal.begun(run.fingerprint, resume=resume) as finished, _explained(run):
        with workers(jobs, distributed) as crew:
            run.code(finished, crew)
        run.tune()
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
        """Everything the stored codes depend on."""
        return {
            "model": self.plan.checkpoint.fingerprint,
            "recipe": dump_coding(self.plan.recipe),
            "calibration text": self.windows.text if self.windows else "",
            "number of threads": str(torch.get_num_threads()),
            "processor": torch.backends.cpu.get_cpu_capability(),
            **{f"version of {name}": version for name, version in versions().items()},
        }

    def say(self, done: int, message: str) -> None:
        """`done` of the blocks are finished."""
        self.progress(Event(done, self.plan.coding.spec.num_layers, message))

    def code(self, finished: int, crew: Workers) -> None:
        """Every block that is not finished yet."""
        self.say(finished, f"continuing after {finished} finished blocks" if finished else self._begin())
        self._weigh(finished)
        inputs = self._inputs(finished)
        for layer in range(finished, self.plan.coding.spec.num_layers):
            started = time.monotonic()
            block, inputs = self._block(layer, inputs, crew)
            self.say(layer + 1, f"layer {layer}: {blocks.errors(block)}, {time.monotonic() - started:.1f} s")

    def _weigh(self, finished: int) -> None:
        """What errors of each weight cost, where a rule asks for it."""
        if not self.plan.coding.weighed or finished == self.plan.coding.spec.num_layers:
            return
        assert self.windows
        self.say(finished, "the way back through the model, for the Fisher information of its weights")
        fisher.measure(
            self.plan.checkpoint, self.windows.tokens, self.plan.coding.weighed, self.journal.fisher
        )

    def _begin(self) -> str:
        """What is about to happen."""
        text, count = "without a text", len(self.plan.coding.rules)
        if self.windows:
            windows, seq_len = self.windows.tokens.shape
            text = f"on {windows} windows of {seq_len} tokens of {self.windows.name}"
        return f"{self.plan.recipe.name}: {count} matrices of {self.plan.checkpoint.name}, {text}"

    def _block(self, layer: int, inputs: Sequence[Tensor], crew: Workers) -> tuple[Block, Sequence[Tensor]]:
        """One block, coded and in the journal, and what the next one reads."""
        coding, checkpoint = self.plan.coding, self.plan.checkpoint
        w = blocks.transformed(coding, layer, transformer.layer_weights(checkpoint, layer), inputs)
        costs = fisher.read(self.journal.fisher, layer)
        block = blocks.code(coding, layer, w, inputs, checkpoint.linears, crew, costs)
        if self.plan.recipe.tune:
            block = self._tuned(self.plan.recipe.tune, layer, w, block, inputs)
        following = self._store(layer + 1, blocks.advanced(coding, layer, w, block, inputs))
        write_block(self.journal.block(layer), block)
        self.journal.forget(layer)
        return block, following

    def _tuned(self, settings: Tune, layer: int, w: Weights, block: Block, inputs: Sequence[Tensor]) -> Block:
        """The block, trained to put out what the original one does where the original model is."""
        read = Activations(self.journal.originals(layer))
        made = (transformer.block(self.plan.coding.spec, layer, w, batch) for batch in read)
        targets = activations.store(self.journal.originals(layer + 1), made)
        return tune.block(settings, self.plan.coding.spec, layer, w, block, inputs, targets)

    def tune(self) -> None:
        """The model as a whole, unless that is done already."""
        settings, spec = self.plan.recipe.tune, self.plan.coding.spec
        if not (settings and settings.scales.enabled and self.windows) or self.journal.tuned.exists():
            return

        def say(done: int, steps: int, loss: float) -> None:
            if done == 1 or done % 8 == 0 or done == steps:
                self.say(spec.num_layers, f"end to end: step {done} of {steps}, loss {loss:.4f}")

        hidden = Activations(self.journal.originals(spec.num_layers))
        tune.whole(settings, self.plan, self.journal, self._batches(), hidden, say)

    @property
    def _reads_blocks(self) -> bool:
        """Whether what blocks read of the text is needed, to code them or to train them."""
        return self.plan.coding.observes or self.plan.recipe.tune is not None

    def _inputs(self, layer: int) -> Sequence[Tensor]:
        """What block `layer` reads."""
        stored = self.journal.activations(layer)
        coding = self.plan.coding
        if stored.exists() or layer or not self.windows or not self._reads_blocks:
            return Activations(stored)
        w = outer.transformed(coding, transformer.outer_weights(self.plan.checkpoint))
        return self._store(0, (transformer.embed(coding.spec, w, batch) for batch in self._batches()))

    def _batches(self) -> Sequence[Tensor]:
        """The windows, as many together as go through a block."""
        assert self.windows
        tokens, size = torch.from_numpy(self.windows.tokens), max(1, BATCH // self.windows.tokens.shape[1])
        return [tokens[start : start + size] for start in range(0, len(tokens), size)]

    def _store(self, layer: int, batches: Iterator[Tensor]) -> Sequence[Tensor]:
        """Keep what block `layer`, or behind the last one the head, reads, if anything reads it."""
        coding = self.plan.coding
        observes = self._reads_blocks if layer < coding.spec.num_layers else coding.observes_head
        if not self.windows or not observes:
            return ()
        return activations.store(self.journal.activations(layer), batches)


def _searched(
    checkpoint: Checkpoint, recipe: Recipe, text: Text | None, threads: int | None, progress: Progress
) -> Recipe:
    """The recipe with what its search finds; found anew when a run is continued, and the same."""
    windows = draw(checkpoint, text or recipe.calibration.text, recipe.calibration).tokens

    def say(message: str) -> None:
        progress(Event(0, checkpoint.spec.num_layers, f"search: {message}"))

    with working(threads):
        return search.searched(checkpoint, recipe, windows, threads, say)


def _windows(made: Plan, text: Text | None) -> Windows | None:
    """The windows to observe, if the plan observes anything."""
    if not (made.coding.observes or made.coding.weighed or made.recipe.tune):
        return None
    settings, tune = made.recipe.calibration, made.recipe.tune
    if tune:
        settings = structs.replace(settings, samples=max(settings.samples, tune.samples))
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

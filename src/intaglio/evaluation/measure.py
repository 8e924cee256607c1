"""Measure: everything about a model that a decision needs, in one call."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from intaglio.engine import score
from intaglio.engine.executor import count_threads
from intaglio.errors import MissingExtra, UsageError
from intaglio.evaluation import quality, speed
from intaglio.evaluation.result import Result
from intaglio.evaluation.runtime import Name, Runtime, open_runtime, versions
from intaglio.models import open_checkpoint, scheme, texts
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.tokenizer import Tokenizer
from intaglio.types import Array

Progress = Callable[[str, int, int], None]  # what, done, of
Tasks = Callable[[Checkpoint, int], dict[str, dict[str, float]]]  # model, threads -> task -> metric -> value


class Sample(NamedTuple):
    """The text a model is measured on, as windows of tokens."""

    name: str
    sha256: str
    windows: list[Array]


class Subject(NamedTuple):
    """A model under measurement."""

    ref: str
    checkpoint: Checkpoint
    runtime: Runtime


class Setting(NamedTuple):
    """What every measurement of a run shares."""

    sample: Sample
    threads: int  # of both models: what is compared gets the same
    progress: Progress


def silent(what: str, done: int, of: int) -> None:
    """No progress shown."""


def evaluate(
    model: str | Path,
    against: str | Path | None = None,
    text: str | Path | None = None,
    windows: int = 24,
    seq_len: int = 512,
    tasks: Sequence[str] = (),
    per_layer: bool = False,
    threads: int | None = None,
    *,
    runtime: Name | None = None,
    include_path: str | Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Perplexity, size, speed and memory of `model`; with `against`, its distance from that original too.

    `text`: a .txt or .jsonl file; None is the evaluation half of the text every Python ships. `windows`
    windows of `seq_len` tokens do not overlap. `runtime` None: ours for our artifacts, else transformers.
    """
    if per_layer and against is None:
        raise UsageError("which layer hurts is seen against the original: give --against")
    run = _tasks(tasks, include_path) if tasks else None
    checkpoint = open_checkpoint(model)
    setting = Setting(sample_text(checkpoint, text, windows, seq_len), count_threads(threads), progress)
    subject = Subject(str(model), checkpoint, open_runtime(checkpoint, runtime, setting.threads, seq_len))
    base = None if against is None else _original(checkpoint, str(against), runtime, setting)
    result = alone(subject, setting) if base is None else _with_original(subject, base, setting)
    if run is not None:
        result = _with_tasks(result, subject, base, run, setting)
    if base is not None and per_layer:
        result = _with_layers(result, subject, base, setting)
    return result


def sample_text(checkpoint: Checkpoint, text: str | Path | None, windows: int, seq_len: int) -> Sample:
    """The first windows of the text, in the model's tokens."""
    default = text is None or str(text) == texts.DEFAULT
    documents = [texts.evaluation_text()] if default else list(texts.documents(text))
    name = f"{texts.DEFAULT} (evaluation half)" if default else Path(str(text)).name
    joined = "\n\n".join(documents)
    tokens = Tokenizer.from_files(checkpoint.files, checkpoint.config).encode(joined)
    found = score.windows(tokens, seq_len, windows, f"text {name}")
    return Sample(name, hashlib.sha256(joined.encode()).hexdigest(), found)


def _original(candidate: Checkpoint, ref: str, runtime: Name | None, setting: Setting) -> Subject:
    """The model to compare with, if it can be compared."""
    base = open_checkpoint(ref)
    if candidate.spec.vocab_size != base.spec.vocab_size:
        raise UsageError(
            f"{candidate.name} has {candidate.spec.vocab_size} tokens, {base.name} {base.spec.vocab_size}:"
            " only models over the same vocabulary can be compared"
        )
    seq_len = len(setting.sample.windows[0])
    return Subject(ref, base, open_runtime(base, runtime, setting.threads, seq_len))


def prompt(checkpoint: Checkpoint, sample: Sample) -> list[int]:
    """What a model is timed on: the first window, as far as there is room for an answer."""
    room = checkpoint.spec.max_position - speed.DECODE - 1
    found: list[int] = sample.windows[0][:room].tolist()
    return found


def alone(subject: Subject, setting: Setting) -> Result:
    """What can be said of a model without another."""
    count = _counter(setting)
    perplexity = quality.perplexity(
        subject.runtime.logits, setting.sample.windows, subject.checkpoint.name, count
    )
    return _result(subject, perplexity, scheme.parameters(subject.checkpoint), setting)


def beside(subject: Subject, base: Subject, setting: Setting) -> tuple[Result, float]:
    """The model with its distance from the original, and the original's perplexity."""
    names = (subject.checkpoint.name, base.checkpoint.name)
    logits = (subject.runtime.logits, base.runtime.logits)
    found = quality.compare(logits, setting.sample.windows, names, _counter(setting))
    result = msgspec.structs.replace(
        _result(subject, found.perplexities[0], scheme.parameters(base.checkpoint), setting),
        kl_mean=found.kl_mean,
        kl_max=found.kl_max,
        top1_agreement=found.top1_agreement,
    )
    return result, found.perplexities[1]


def _with_original(subject: Subject, base: Subject, setting: Setting) -> Result:
    result, perplexity = beside(subject, base, setting)
    against = _result(base, perplexity, scheme.parameters(base.checkpoint), setting)
    return msgspec.structs.replace(result, against=against)


def _result(subject: Subject, perplexity: float, original: int, setting: Setting) -> Result:
    """Adds what does not depend on the text: size, and from a process of its own speed and memory."""
    checkpoint, runtime, sample = subject.checkpoint, subject.runtime, setting.sample
    setting.progress(f"timing {checkpoint.name}", 0, 1)
    job = speed.Job(subject.ref, runtime.name, setting.threads, prompt(checkpoint, sample))
    return Result(
        model=checkpoint.name,
        perplexity=perplexity,
        bits_per_weight=scheme.bits_per_weight(checkpoint, original),
        bytes=checkpoint.nbytes,
        parameters=original,
        text=sample.name,
        text_sha256=sample.sha256,
        windows=len(sample.windows),
        seq_len=len(sample.windows[0]),
        runtime=runtime.name,
        dtype=runtime.dtype,
        threads=runtime.threads,
        versions=versions(runtime.libraries),
        **msgspec.structs.asdict(speed.measure(job)),
    )


def _tasks(names: Sequence[str], include_path: str | Path | None) -> Tasks:
    """Finds the tasks now, so that a wrong name costs no measurement -> what runs them on a model."""
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtra("lm_eval", "eval")
    from intaglio.evaluation import harness

    manager = harness.find(names, include_path)
    return lambda checkpoint, threads: harness.run(checkpoint, names, manager, threads)


def _with_tasks(
    result: Result, subject: Subject, base: Subject | None, run: Tasks, setting: Setting
) -> Result:
    setting.progress("tasks", 0, 1)
    against = result.against
    if base is not None and against is not None:
        against = msgspec.structs.replace(against, tasks=run(base.checkpoint, setting.threads))
    return msgspec.structs.replace(result, tasks=run(subject.checkpoint, setting.threads), against=against)


def _with_layers(result: Result, subject: Subject, base: Subject, setting: Setting) -> Result:
    from intaglio.evaluation import layers

    windows = setting.sample.windows[: layers.WINDOWS]
    found = layers.measure(subject.checkpoint, base.checkpoint, windows, setting.progress)
    return msgspec.structs.replace(result, per_layer=found, per_layer_windows=len(windows))


def _counter(setting: Setting) -> Callable[[], None]:
    """Counts windows."""
    steps = itertools.count(1)
    return lambda: setting.progress("scoring", next(steps), len(setting.sample.windows))

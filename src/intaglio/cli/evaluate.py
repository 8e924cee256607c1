"""`intaglio eval`: measure a model, alone or beside its original."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli import options

if TYPE_CHECKING:
    from intaglio.evaluation import Result


class Runtime(StrEnum):
    """What runs the models."""

    native = "native"
    transformers = "transformers"


def command(
    model: options.Model,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The original to compare with.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .txt or .jsonl file.", show_default="text that Python ships"),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows of text to score.")] = 24,
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 512,
    tasks: Annotated[
        list[str] | None, typer.Option(help="lm-eval tasks, separated by commas or given several times.")
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where more lm-eval tasks are defined.")
    ] = None,
    per_layer: Annotated[
        bool,
        typer.Option("--per-layer", help="KL with only one layer compressed, for each; needs --against."),
    ] = False,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="What runs the models.", show_default="native for our artifacts, else transformers"
        ),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.cli import console, report
    from intaglio.evaluation import evaluate

    names = [name for group in tasks or () for name in options.names(group)]
    with console.progress(quiet=quiet) as progress:
        result: Result = evaluate(
            model,
            against,
            text,
            windows,
            seq_len,
            names,
            per_layer,
            threads,
            runtime=None if runtime is None else runtime.value,
            include_path=include_path,
            progress=progress,
        )
    if json:
        console.print_json(result.record())
    else:
        report.show(result)

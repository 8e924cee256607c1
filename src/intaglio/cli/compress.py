"""`intaglio compress`: compress a model with a recipe."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli import openmp, options


def command(
    model: options.Model,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A recipe's name (intaglio recipes) or YAML file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The directory to write.")],
    calibration: options.Calibration = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Windows to observe.", show_default="the recipe's")
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option(min=2, help="Tokens in a window.", show_default="the recipe's")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the draws.", show_default="the recipe's")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the recipe: transforms.rotate.enabled=false."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what is at the output.")] = False,
    threads: options.Threads = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Matrices coded at once, each on --threads.")
    ] = 1,
    distributed: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Code matrices on a Ray cluster: ray://HOST:PORT, or auto."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    openmp.wait_passively()  # before torch is imported
    from intaglio import compression
    from intaglio.cli import console
    from intaglio.compression import progress

    with nullcontext(progress.silent) if quiet else progress.console() as shown:
        report = compression.compress(
            model,
            recipe,
            output,
            calibration=calibration,
            samples=samples,
            seq_len=seq_len,
            seed=seed,
            set=set_ or (),
            resume=resume,
            force=force,
            threads=threads,
            jobs=jobs,
            distributed=distributed,
            progress=shown,
        )
    if json:
        console.print_json(report)
    elif not quiet:
        console.note(report.summary())

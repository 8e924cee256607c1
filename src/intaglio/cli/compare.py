"""`intaglio compare`: recipes on one model, side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli import openmp, options
from intaglio.errors import IntaglioError


def command(
    model: options.Model,
    recipes: Annotated[
        str,
        typer.Option(
            "--recipes",
            "-r",
            metavar="NAMES",
            help="Recipes or YAML files, by commas; or all. Ends with 1 if one fails.",
        ),
    ],
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What to measure on: .txt or .jsonl.", show_default="text that Python ships"
        ),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows of text to score.")] = 24,
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens in a window of text.")] = 512,
    calibration: options.Calibration = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Windows to observe.", show_default="each recipe's")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change every recipe: calibration.seq_len=256."),
    ] = None,
    budget_bits: Annotated[
        float | None,
        typer.Option(
            metavar="BITS", min=0, help="Bits per weight that the best may have.", show_default="none"
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", "-d", metavar="DIR", help="What is kept.", show_default="artifacts/compare/MODEL"
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The page to write.", show_default="report.html among what is kept"
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Times that speeds are measured, all in turn; medians are told.")
    ] = 3,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="End with 1 too if a claim is not borne out; recipes that claims name must be given too.",
        ),
    ] = False,
    threads: options.Threads = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Recipes compressed at once; they share --threads.")
    ] = 1,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    openmp.wait_passively()  # before torch is imported
    from intaglio.cli import console
    from intaglio.comparison import Request, compare
    from intaglio.comparison.page import page, summary
    from intaglio.comparison.table import broken, failed, table

    request = Request(
        model=model,
        recipes=options.names(recipes),
        calibration=tuple(calibration or ()),
        samples=samples,
        set=tuple(set_ or ()),
        text=None if text is None else str(text),
        windows=windows,
        seq_len=seq_len,
        budget_bits=budget_bits,
        rounds=rounds,
        check=check,
        threads=threads,
        jobs=jobs,
        directory=directory,
        command=shlex.join(["intaglio", *sys.argv[1:]]),
    )
    options.check_directory("--directory", request.kept)
    options.check_parent("--html", html)
    say = (lambda line: None) if quiet else console.note
    with console.progress(quiet=quiet) as progress:
        found = compare(request, progress, say)
    if json:
        console.print_json(found)
    else:
        console.show(table(found))
    for line in () if quiet else (*broken(found), summary(found)):
        console.note(line)
    written = html or request.kept / "report.html"
    written.write_text(page(found), encoding="utf-8")
    if not quiet:
        console.note(f"page: {written}")
    if faults := [*failed(found), *(broken(found) if check else ())]:
        raise IntaglioError("; ".join(faults))

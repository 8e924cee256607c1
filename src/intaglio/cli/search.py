"""`intaglio search`: the best form of every matrix, as a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli import openmp, options
from intaglio.errors import UsageError


def command(
    model: options.Model,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Of all stored weights: 80MB.", show_default="none")
    ] = None,
    max_bits: Annotated[
        float | None, typer.Option(metavar="BITS", help="Per weight, all stored.", show_default="none")
    ] = None,
    max_ppl_increase: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Of perplexity, predicted; as small as possible.", show_default="none"
        ),
    ] = None,
    min_speed: Annotated[
        float | None,
        typer.Option(metavar="TOKENS/S", help="Of decoding, predicted.", show_default="none"),
    ] = None,
    candidates: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="int2 to int8, float16, bfloat16, recipes: their first rule alone, no transforms or tune.",
        ),
    ] = "int2,int3,int4,int8,float16",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The recipe to write.", show_default="among what is kept"
        ),
    ] = None,
    calibration: options.Calibration = None,
    samples: Annotated[int, typer.Option(min=1, help="Windows to observe.")] = 32,
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    windows: Annotated[int, typer.Option(min=1, help="More windows, on which losses are measured.")] = 2,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", "-d", metavar="DIR", help="What is kept.", show_default="artifacts/search/MODEL"
        ),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    openmp.wait_passively()  # before torch is imported
    from intaglio.cli import console
    from intaglio.recipe import Calibration, dump_recipe
    from intaglio.search import Request, search
    from intaglio.search.candidates import left_out, named, notes
    from intaglio.search.page import page
    from intaglio.search.table import table

    request = Request(
        model=model,
        candidates=options.names(candidates),
        max_size=None if max_size is None else options.size("--max-size", max_size),
        max_bits=max_bits,
        max_ppl_increase=max_ppl_increase,
        min_speed=min_speed,
        text=tuple(calibration or ()),
        calibration=Calibration(samples=samples, seq_len=seq_len, seed=seed),
        windows=windows,
        threads=threads,
        directory=directory,
        command=shlex.join(["intaglio", *sys.argv[1:]]),
    )
    options.check_parent("--output", output)
    written = output or request.kept / "recipe.yaml"
    _check(written, request.kept)
    drawn = written.with_suffix(".html")
    for note in notes(left_out(named(request.candidates))):
        console.note(note)
    with console.progress(quiet=quiet, lines=True) as progress:
        found = search(request, progress)
    written.write_text(dump_recipe(found.recipe), encoding="utf-8")
    drawn.write_text(page(found), encoding="utf-8")
    if json:
        console.print_json(found)
    else:
        console.show(table(found))
    if not quiet:
        console.note(f"recipe: {written}, Pareto curve: {drawn}")
        console.note(
            f"next: intaglio compress {shlex.quote(model)} --recipe {shlex.quote(str(written))} --output DIR"
        )


def _check(recipe: Path, kept: Path) -> None:
    """Refuses what could not be written at the end of long work, or not be read as a recipe then."""
    if recipe.is_dir():
        raise UsageError(f"--output: {recipe} is a directory, expected a file that ends in .yaml or .yml")
    if recipe.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output: {recipe} is no recipe's name: expected one that ends in .yaml or .yml")
    if (page := recipe.with_suffix(".html")).is_dir():
        raise UsageError(
            f"--output: {page} is a directory, and the page beside {recipe} would be written there"
        )
    options.check_directory("--directory", kept)

"""`intaglio export`: write a compressed model for another program."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli import options


class Format(StrEnum):
    """Those of other programs."""

    COMPRESSED_TENSORS = "compressed-tensors"
    GGUF = "gguf"


class Dtype(StrEnum):
    """Of numbers that are not codes."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def command(
    model: options.Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The directory, or .gguf file, to write.")
    ],
    format: Annotated[
        Format, typer.Option(help="compressed-tensors: vLLM, SGLang, transformers; gguf: llama.cpp.")
    ] = Format.COMPRESSED_TENSORS,
    dtype: Annotated[
        Dtype, typer.Option(help="Of scales, norms and the vocabulary, in compressed-tensors.")
    ] = Dtype.FLOAT16,
    dense: Annotated[
        bool, typer.Option("--dense", help="Matrices that it has no codes for become plain numbers.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what is at the output.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.cli import console
    from intaglio.export import export

    if format is Format.GGUF:
        options.check_parent("--output", output)
    else:
        options.check_directory("--output", output)
    found = export(model, output, format.value, dtype=dtype.value, dense=dense, force=force)
    if json:
        console.print_json(found)
    elif not quiet:
        console.note(found.summary())

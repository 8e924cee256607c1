"""Arguments and options that several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from intaglio.errors import UsageError

UNITS = {"": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A directory, a .gguf file, a hub id, or smollm2-135m.", show_default=False
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Threads to use.", show_default="all cores")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no statistics.")]
Calibration = Annotated[
    list[str] | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Text to observe: .txt, .jsonl or pydoc; may be given several times.",
    ),
]

# how the model is opened
KV = Annotated[
    str | None,
    typer.Option("--kv", help="Keys and values as fp32, fp16, int8 or int4.", show_default="the model's own"),
]
MaxContext = Annotated[
    int | None,
    typer.Option(
        "--max-context", min=2, help="Tokens of prompt and answer together.", show_default="the model's own"
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="prompt-lookup|MODEL",
        help="Guess tokens from the text so far, or with a smaller model: same answers, perhaps sooner.",
        show_default="none",
    ),
]
MaxDraft = Annotated[
    int, typer.Option("--max-draft", min=1, max=64, help="Tokens to guess at most before they are checked.")
]


def names(text: str) -> tuple[str, ...]:
    """`rtn-w4, gptq-w4` -> both names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def size(option: str, text: str) -> int:
    """`80MB` -> 80,000,000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(kB|MB|GB|)", text)
    if found is None:
        raise UsageError(f"{option}: {text!r} is no size; expected a number of bytes, or one like 80MB")
    return round(float(found[1]) * UNITS[found[2]])


def check_parent(option: str, path: Path | None) -> None:
    """Refuses a file that could not be written at the end of long work."""
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{option}: {path.parent} is no directory")
    if path is not None and path.is_dir():
        raise UsageError(f"{option}: {path} is a directory, expected a file")


def check_directory(option: str, path: Path) -> None:
    """Refuses a directory that could not be made, because a file stands there or above."""
    there = next(one for one in (path, *path.parents) if one.exists())
    if not there.is_dir():
        raise UsageError(f"{option}: {there} is a file, expected a directory")

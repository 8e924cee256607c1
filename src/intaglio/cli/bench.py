"""`intaglio bench`: how fast a model is here, beside other engines and beside what the machine can do."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from intaglio.cli import options
from intaglio.errors import UsageError

if TYPE_CHECKING:
    from intaglio.benchmark.result import Result

BenchModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A directory, a .gguf file, a hub id, smollm2-135m, synthetic:llama-3.2-1b or -3b.",
        show_default=False,
    ),
]


def command(
    model: BenchModel,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Of llama.cpp, openvino and transformers, or none.",
            show_default="all that are installed",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="What the peers run.", show_default="what the model was compressed from"
        ),
    ] = None,
    prefill: Annotated[
        str, typer.Option(metavar="SIZES", help="Tokens of the prompts; 512 is always among them.")
    ] = ("128,512,2048"),
    context: Annotated[
        str,
        typer.Option(
            metavar="SIZES", help="Contexts at which single tokens are decoded; 64 is always among them."
        ),
    ] = "64,1024,4096,8192",
    batch: Annotated[
        str,
        typer.Option(
            metavar="SIZES", help="Streams at once, 128 tokens in and 64 out; 32 is always among them."
        ),
    ] = "1,4,16,64",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of each; more while they differ.")] = 5,
    isa: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Our instruction set.", show_default="the best there is"),
    ] = None,
    kv: options.KV = None,
    threads: options.Threads = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with a roofline plot.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.benchmark.entrants import named
    from intaglio.benchmark.page import page
    from intaglio.benchmark.run import Request, bench
    from intaglio.cli import console

    options.check_parent("--html", html)
    request = Request(
        model=model,
        sizes={
            "prefill": _sizes("--prefill", prefill),
            "decode": _sizes("--context", context),
            "batch": _sizes("--batch", batch),
        },
        peers=None if peers is None else named(peers),
        against=against,
        threads=threads,
        repeats=repeats,
        isa=isa,
        kv=kv,
        command=shlex.join(["intaglio", *sys.argv[1:]]),
    )
    signal.signal(signal.SIGTERM, _end)
    with console.progress(quiet=quiet) as progress:
        result = bench(request, progress)
    if html is not None:
        html.write_text(page(result), encoding="utf-8")
    if json:
        console.print_json(result.record())
    else:
        _show(result)
    if not quiet:
        _explain(result)


def _sizes(option: str, text: str) -> tuple[int, ...]:
    """`64,1024` -> sizes; `none` -> none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts == ["none"]:
        return ()
    if wrong := [part for part in parts if not part.isdecimal() or not 0 < int(part) < 1 << 24]:
        raise UsageError(f"{option}: {wrong[0]!r} is no size; expected numbers like 64,1024, or none")
    return tuple(map(int, parts))


def _end(number: int, frame: object) -> NoReturn:
    """Told to end: processes are stopped and files removed on the way out."""
    sys.exit(128 + number)


def _show(result: Result) -> None:
    from intaglio.benchmark.table import tables
    from intaglio.cli import console

    for table in tables(result):
        console.show(table)


def _explain(result: Result) -> None:
    """What the tables do not say, on stderr."""
    from intaglio.benchmark.engines import ENGINES
    from intaglio.benchmark.table import limits_line
    from intaglio.cli.console import note

    for engine, why in result.skipped.items():
        note(f"{ENGINES[engine][1]}: {why}")
    for line in (*result.notes, limits_line(result)):
        note(line)

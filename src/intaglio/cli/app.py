"""The command `intaglio`: finds the verb, and turns what goes wrong into one sentence and an exit code.

0 done · 1 it failed · 2 the request makes no sense · 130 interrupted
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

import intaglio
from intaglio.errors import ERROR, IntaglioError

# verb -> (module of this package, its line in --help)
VERBS = {
    "compress": ("compress", "Compress a model with a recipe."),
    "export": ("export", "Write a compressed model for vLLM, transformers or llama.cpp."),
    "eval": ("evaluate", "Measure a model, alone or beside its original."),
    "compare": ("compare", "Run recipes side by side on a model."),
    "search": ("search", "Search the best form of every matrix: a recipe."),
    "bench": ("bench", "Time a model, beside other engines and the machine."),
    "bench-serve": ("bench_serve", "Put a load on a server; measure what its users would wait for."),
    "generate": ("generate", "Continue a prompt."),
    "chat": ("chat", "Talk to a model."),
    "serve": ("serve", "Serve models over an OpenAI-compatible API, with a page."),
    "inspect": ("inspect", "Show what a model is made of: layers, bits, bytes, errors."),
    "explain": ("explain", "Show which kernel runs each matrix, and why not another."),
    "recipes": ("recipes", "List the recipes, or show one."),
}


class Verbs(TyperGroup):
    """Lists the verbs without importing them; imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {verb: TyperCommand(verb, help=line) for verb, (_, line) in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except IntaglioError as error:
            fail(str(error), error.exit_code)
        except BrokenPipeError:
            quiet_exit()
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{(error.strerror or str(error)).lower()}", 1)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def load(verb: str) -> TyperCommand:
    """The command of one verb."""
    module, help_line = VERBS[verb]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(verb, help=help_line)(importlib.import_module(f"intaglio.cli.{module}").command)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def fail(sentence: str, code: int) -> NoReturn:
    """Say what went wrong on stderr and end."""
    typer.secho(f"{ERROR}{sentence}", err=True, fg="red" if sys.stderr.isatty() else None)
    raise typer.Exit(code)


def quiet_exit() -> NoReturn:
    """The reader of our output has gone (`| head`): end without a word, also when buffers are flushed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(141)  # what a shell reports for a process ended by SIGPIPE


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"intaglio {intaglio.__version__}")
        raise typer.Exit


# no rich markup: drawing the boxes of a help text would take longer than all the rest of it
app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(help="Compress a transformer, run the compressed form, and measure what it cost.")
def intaglio_command(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """MODEL is a directory, a .gguf file, a hub id, or smollm2-135m."""


def report_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Our mistake, not the user's: one line, and how to see more."""
    if os.environ.get("INTAGLIO_DEBUG"):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"{ERROR}unexpected {kind.__name__}: {error}", file=sys.stderr)
        print("This is a mistake in intaglio; INTAGLIO_DEBUG=1 shows where.", file=sys.stderr)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    sys.excepthook = report_unexpected
    # bytes that are no text become an error of the prompt, characters that a terminal lacks a question mark
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)
    typer.main.get_command(app).main(None if args is None else list(args), prog_name="intaglio")

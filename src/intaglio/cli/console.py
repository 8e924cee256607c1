"""What the verbs print: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from intaglio.pages.table import Table

Progress: TypeAlias = Callable[[str, int, int], None]
PIPE_WIDTH = 160  # columns of a table that no terminal shows


def print_json(value: Any) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def note(text: str = "") -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = (), title: str = ""
) -> None:
    """An aligned table on stdout; columns in `right` are numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right = set(right)
    drawn = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, title_style="bold"
    )
    for index, header in enumerate(headers):
        drawn.add_column(header, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))  # Text: a bracket in a name is no markup
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    with console.capture() as captured:  # written by ourselves: rich would end the process on a closed pipe
        console.print(drawn)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")
    sys.stdout.flush()


def show(shown: Table) -> None:
    """A table with its title."""
    numbers = set(range(len(shown.headers))) - set(shown.words)
    table(shown.headers, shown.rows, right=numbers, title=shown.title)


def pairs(values: Mapping[str, str | None]) -> None:
    """Names and what they are, on stdout; those without a value are left out."""
    width = max(map(len, values))
    for name, value in values.items():
        if value:
            sys.stdout.write(f"{name:<{width}}  {value}\n")


@contextmanager
def progress(*, quiet: bool, lines: bool = False) -> Iterator[Progress]:
    """What is told what is done, done, and of how many; nothing of nothing where that is not known.

    A bar on a terminal's stderr; elsewhere a line each, if `lines`, or nothing.
    """
    if not quiet and sys.stderr.isatty():
        with _bar() as shown:
            yield shown
    else:
        yield _line if lines and not quiet else lambda what, done, of: None


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of or None)


def _line(what: str, done: int, of: int) -> None:
    note(f"[{done}/{of}] {what}")


def size(count: float) -> str:
    """Bytes for people: 94.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def number(value: float | None, digits: int = 4) -> str:
    """Significant digits, thousands separated; a dash for what was not measured."""
    if value is None:
        return "–"
    if value != value:
        return "NaN"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"

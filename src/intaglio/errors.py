"""What goes wrong for a user: each is one sentence and an exit code, never a traceback."""

ERROR = "error: "  # what the sentence follows, on stderr


class IntaglioError(Exception):
    """Something failed: names the thing, what was found and what would work. Exit code 1."""

    exit_code = 1


class UsageError(IntaglioError):
    """The request itself cannot be carried out as written (argument, recipe field). Exit code 2."""

    exit_code = 2


class MissingExtra(IntaglioError):  # noqa: N818 - reads as what it says
    """An optional dependency is needed here and is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is needed for this and is not installed: pip install 'intaglio[{extra}]'")

"""SHA256SUMS: what `sha256sum -c` checks, written and checked here with several files at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from intaglio.errors import IntaglioError
from intaglio.models import json_text
from intaglio.models.json_text import shown

SUMS = "SHA256SUMS"
THREADS = 4
MAX_FILES = 1 << 14
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\:\x00-\x1f]{1,255})")


def write(directory: Path) -> None:
    """Sums of every file that is there."""
    sums = hash_files(path for path in sorted(directory.iterdir()) if path.name != SUMS)
    lines = (f"{digest}  {name}\n" for name, digest in sums.items())
    (directory / SUMS).write_text("".join(lines), encoding="utf-8")


@contextmanager
def verified(directory: Path) -> Iterator[dict[str, str]]:
    """File name -> sum; they are checked while the context lasts, and found to be right where it ends.

    What fails inside because a file was altered is reported as that.
    """
    listed = read(directory)
    with ThreadPoolExecutor(THREADS) as pool:
        found = {name: pool.submit(_hash, directory / name) for name in listed}
        try:
            yield listed
        finally:
            for name, digest in listed.items():
                if found[name].result() != digest:
                    raise IntaglioError(
                        f"{directory / name} was altered or damaged: its SHA-256 is not the one in {SUMS}"
                    )


def read(directory: Path) -> dict[str, str]:
    """File name -> sum, as listed; names that lead elsewhere are refused."""
    where = directory / SUMS
    text = json_text.read_bytes(where, most=MAX_FILES * 320).decode("utf-8", errors="replace")
    listed: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if not found or found[2] in (".", "..") or found[2] in listed or number > MAX_FILES:
            raise IntaglioError(
                f"{where}, line {number}: {shown(line)} is not the sum of one further file beside it"
            )
        listed[found[2]] = found[1]
    return listed


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """File name -> SHA-256, several at once."""
    listed = list(paths)
    with ThreadPoolExecutor(THREADS) as pool:  # hashing and reading leave the interpreter free
        return {path.name: digest for path, digest in zip(listed, pool.map(_hash, listed), strict=True)}


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IntaglioError(f"{path}: {(error.strerror or str(error)).lower()}") from None

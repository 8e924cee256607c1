"""Files and directories that appear under their name only when whole, on disk, and otherwise not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from intaglio.errors import IntaglioError, UsageError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes the name `path` when the block ends well, and vanishes otherwise."""
    with _readable_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _permit(temporary, 0o666)
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def new_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """The same for a directory; one that is there and not empty is replaced only with `force`."""
    restore(path)
    check_free(path, force=force)
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            with _held(temporary):
                yield temporary
                _permit(temporary, 0o777)
                for file in temporary.iterdir():
                    _sync(file)
                _sync(temporary)
                _put(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(path.parent)


def check_free(path: Path, *, force: bool) -> None:
    """Refuses a target that holds something, unless it may be replaced."""
    if path.is_dir():
        if any(path.iterdir()) and not force:
            raise UsageError(f"{path} exists and is not empty: choose another output, or --force")
    elif path.exists():
        raise UsageError(f"{path} exists and is a file: choose another output")


def restore(path: Path) -> None:
    """Give `path` back if a run was killed after it set the old one aside and before the new one stood."""
    with _readable_errors(path):
        for old in _left(path, ".old"):
            if path.exists():  # the new one stands
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(path)


def _sweep(path: Path) -> None:
    """Remove what killed runs left unfinished beside `path`."""
    for left in _left(path, ".tmp"):
        shutil.rmtree(left, ignore_errors=True)


def _left(path: Path, suffix: str) -> Iterator[Path]:
    """Directories beside `path` that killed runs left, not a running one's; held by us during their turn."""
    for left in path.parent.glob(f".{escape(path.name)}.*{suffix}"):
        with suppress(NotADirectoryError, FileNotFoundError), _held(left) as ours:
            if ours:
                yield left


@contextmanager
def _held(directory: Path) -> Iterator[bool]:
    """Whether we got the directory's lock, which the system takes back from a process that dies."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another has it, or the file system has no locks: then nothing is ever swept
        return False
    return True


def _put(temporary: Path, path: Path) -> None:
    """Rename; what was there goes only after the new one stands, and comes back if that fails."""
    if not path.exists():
        temporary.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    with _held(path):  # also under its other name, so that nobody restores it meanwhile
        path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _permit(path: Path, mode: int) -> None:
    """What the user's umask leaves of `mode`: temporary files are made private."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(mode & ~mask)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise IntaglioError(f"{path} could not be written: {reason}; nothing was left behind") from error

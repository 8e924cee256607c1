"""What survives a killed run: `<output>.partial/`, one file for every finished block.

    journal.json                the fingerprint of the run: what must be the same for its blocks to be used
    block-00007.safetensors     a finished block; it appears whole, and is the commit of that block
    activations-00007/          the inputs of the next block, written before; only the newest is kept
    fisher/                     the Fisher information of the weights, where a rule asks for it
    originals-00007/            what the original block reads there, if blocks are trained
    tuned/                      all blocks again, after training end to end

Each appears under its name when it is whole and on disk, so that a kill at any moment leaves a block or
nothing of it; what else is there (hidden names) is what the kill interrupted.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from intaglio.errors import IntaglioError, UsageError
from intaglio.models.durable import new_file

JOURNAL, VERSION = "journal.json", 1
Fingerprint = Mapping[str, str]  # what must be the same, by the name a user knows it by


class Journal:
    """The directory of one run in progress."""

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".partial")

    @contextmanager
    def begun(self, fingerprint: Fingerprint, *, resume: bool) -> Iterator[int]:
        """Start, or continue a run that is the same in everything -> how many blocks are finished.

        A run that ends badly before its first block is finished leaves nothing.
        """
        self._start(fingerprint, resume=resume)
        with _alone(self.path):
            try:
                self._sweep()
                yield self.finished()
            except BaseException:
                if not self.finished():
                    self.remove()
                raise

    def _start(self, fingerprint: Fingerprint, *, resume: bool) -> None:
        held = self.path.exists() and any(not path.name.startswith(".") for path in self.path.iterdir())
        if not held:
            self.path.mkdir(parents=True, exist_ok=True)
            with new_file(self.path / JOURNAL) as file:
                file.write_text(json.dumps({"version": VERSION, **fingerprint}, indent=1), encoding="utf-8")
        elif resume:
            self._check(fingerprint)
        else:
            raise UsageError(
                f"{self.path} holds an unfinished run: continue it with --resume, or remove it to start again"
            )

    def finished(self) -> int:
        """Blocks 0..n-1 are there."""
        count = 0
        while self.block(count).exists():
            count += 1
        return count

    def block(self, index: int) -> Path:
        return self.path / f"block-{index:05d}.safetensors"

    def activations(self, index: int) -> Path:
        """The inputs of block `index`; behind the last one, of the head."""
        return self.path / f"activations-{index:05d}"

    @property
    def fisher(self) -> Path:
        """What errors of each weight cost, measured before the first block is coded."""
        return self.path / "fisher"

    def originals(self, index: int) -> Path:
        """What block `index` of the original model reads; the first reads the same in both."""
        return self.path / f"originals-{index:05d}" if index else self.activations(0)

    @property
    def tuned(self) -> Path:
        """The blocks after training end to end, if there was any."""
        return self.path / "tuned"

    def result(self, index: int) -> Path:
        """Block `index` as it will be stored."""
        tuned = self.tuned / self.block(index).name
        return tuned if tuned.exists() else self.block(index)

    def forget(self, index: int) -> None:
        """Block `index` is finished: what it read is not needed again."""
        for read in (self.activations(index), self.originals(index)):
            shutil.rmtree(read, ignore_errors=True)

    def remove(self) -> None:
        shutil.rmtree(self.path)

    def _check(self, fingerprint: Fingerprint) -> None:
        try:
            stored = json.loads((self.path / JOURNAL).read_text(encoding="utf-8"))
            different = [key for key, value in fingerprint.items() if stored[key] != value]
            known = stored["version"] == VERSION
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise IntaglioError(f"{self.path} holds no {JOURNAL} of this version: remove it to start again")
        if different:
            raise UsageError(
                f"{self.path} was begun with another {', '.join(different)}: "
                f"repeat the command it was begun with, or remove it to start again"
            )

    def _sweep(self) -> None:
        """Remove what a kill left behind."""
        finished = self.finished()
        needed = (self.activations(finished), self.originals(finished), self.tuned, self.fisher)
        for path in self.path.iterdir():
            if path.is_dir() and path not in needed:
                shutil.rmtree(path)
            elif path.name.startswith("."):
                path.unlink()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else works in `directory`; the lock ends with the process at the latest."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        _lock(handle, directory)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, directory: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{directory} is in use: another run is working there") from None

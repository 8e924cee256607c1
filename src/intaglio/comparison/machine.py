"""Machine: what runs artifacts here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from intaglio import _native
from intaglio.engine.executor import check_isa
from intaglio.processor import processor_name


def machine() -> dict[str, str]:
    """The processor, the instruction set in use, and the SHA-256 of our build.

    Numbers depend on all three, and not speed alone: kernels add up in orders of their own.
    """
    with Path(_native.__file__).open("rb") as file:
        build = hashlib.file_digest(file, "sha256").hexdigest()
    return {"processor": processor_name(), "isa": check_isa(None), "build": build}

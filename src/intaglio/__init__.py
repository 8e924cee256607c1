"""Intaglio compresses transformers, runs the compressed form, and measures what it cost.

    intaglio.compress("smollm2-135m", "gptq-w4", "out")
    intaglio.LLM("out").generate("Gravity is", intaglio.SamplingParams(max_tokens=32))
    intaglio.evaluate("out", against="smollm2-135m")

Importing this imports nothing else: each name is found when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.compression import compress as compress
    from intaglio.engine.llm import LLM as LLM
    from intaglio.engine.output import SamplingParams as SamplingParams
    from intaglio.evaluation import evaluate as evaluate
    from intaglio.recipe import load_recipe as load_recipe

__version__ = "0.1.0"

_HOME = {
    "LLM": "intaglio.engine.llm",
    "SamplingParams": "intaglio.engine.output",
    "compress": "intaglio.compression",
    "evaluate": "intaglio.evaluation",
    "load_recipe": "intaglio.recipe",
}
__all__ = ["LLM", "SamplingParams", "__version__", "compress", "evaluate", "load_recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'intaglio' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

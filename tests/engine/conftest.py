"""A tiny model with words, opened once a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.engine.llm import LLM
from tests import tiny_llm


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def llm(directory: Path) -> LLM:
    return LLM(directory, threads=2)

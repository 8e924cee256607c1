"""One tiny model and one server over it for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import tiny_llm
from tests.server.serving import Running, serving


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("served"), max_position_embeddings=1024)


@pytest.fixture(scope="session")
def running(tiny: Path) -> Iterator[Running]:
    with serving(tiny) as server:
        yield server


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client

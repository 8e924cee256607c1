"""One browser for all tests of the page, and a server whose answers are scripted.

INTAGLIO_PAGE_URL names a server that runs already; then only the tests that hold for every server are run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.server.page.browser import Page, driving
from tests.server.page.fake import Fake, Script, serving

GIVEN = os.environ.get("INTAGLIO_PAGE_URL", "").rstrip("/")


@pytest.fixture(scope="package")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with driving(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="package")
def server() -> Iterator[tuple[Fake, str]]:
    fake = Fake()
    with serving(fake.app) as url:
        yield fake, url


@pytest.fixture
def script(server: tuple[Fake, str]) -> Script:
    """Of the scripted server, as new."""
    if GIVEN:
        pytest.skip(f"{GIVEN} has no script")
    server[0].script = Script()
    return server[0].script


@pytest.fixture
def page(driver: webdriver.Chrome, server: tuple[Fake, str], script: Script) -> Page:
    """The scripted server's page, opened anew."""
    page = Page(driver, server[1])
    page.open()
    return page


@pytest.fixture
def any_page(driver: webdriver.Chrome, server: tuple[Fake, str]) -> Page:
    """The page of the server that is given, or of the scripted one."""
    server[0].script = Script(answers={}, pause=0.02, every=["word "] * 40)
    page = Page(driver, GIVEN or server[1])
    page.open()
    return page

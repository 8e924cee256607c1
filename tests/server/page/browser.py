"""The server's page in a real browser that can be typed into."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.pages.browser import CHROMIUM

T = TypeVar("T")
DRIVER = shutil.which("chromedriver")
needs_driver = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium or its driver is not installed: apt-get install chromium chromium-driver",
)
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)
SECONDS = 10.0  # until what is awaited must have come
SEEN = (
    "[...document.querySelectorAll(arguments[0])]"
    ".filter((node) => node.checkVisibility() && node.getBoundingClientRect().height)"
)
WIDE, NARROW = (1440, 900), (360, 740)


@contextmanager
def driving(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser without a window."""
    options = webdriver.ChromeOptions()
    for option in [*OPTIONS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(option)
    options.binary_location = CHROMIUM or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page at `url`, and what a person does with it. Selectors are CSS."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, view: str = "") -> None:
        """Anew, with nothing kept from before."""
        self.screen(*WIDE)
        self.driver.get(f"{self.url}/page/icon.svg")
        self.run("localStorage.clear(); sessionStorage.clear()")
        self.complaints()
        self.driver.get(f"{self.url}/{view}")
        self.until(lambda: self.run("return innerWidth") == WIDE[0], "the width")

    def reload(self) -> None:
        self.driver.refresh()

    def screen(self, width: int, height: int, *, dark: bool = False, still: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"prefers-color-scheme": "dark" if dark else "light"}
        media["prefers-reduced-motion"] = "reduce" if still else "no-preference"
        features = [{"name": name, "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def module(self, name: str, expression: str, *values: Any) -> Any:
        """The expression, of the page's module `m` and the values `v`."""
        script = (
            f"const done = arguments[arguments.length - 1]; const v = [...arguments];"
            f"import('/page/{name}').then((m) => {expression}).then(done, (error) => done(String(error)))"
        )
        return self.driver.execute_async_script(script, *values)

    def find(self, query: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, query)

    def all(self, query: str) -> list[WebElement]:
        """Those that can be seen."""
        found: list[WebElement] = self.run(f"return {SEEN}", query)
        return found

    def text(self, query: str) -> str:
        return self.find(query).text

    def texts(self, query: str) -> list[str]:
        """Of those that can be seen."""
        found: list[str] = self.run(f"return {SEEN}.map((node) => node.innerText.trim())", query)
        return found

    def button(self, name: str) -> WebElement:
        """The last one of that name that can be seen."""
        found: WebElement = self.run(
            f"return {SEEN}.findLast((node) => node.innerText === arguments[1])", "button", name
        )
        return found

    def click(self, name: str) -> None:
        self.button(name).click()

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Waits until the condition holds; says `what` did not come."""
        return WebDriverWait(self.driver, SECONDS, 0.02).until(lambda _: condition(), what)

    def press(self, *keys: str) -> None:
        """Where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def keys(self, *keys: str, held: str = "") -> None:
        """Pressed one by one, wherever that leads."""
        chain = webdriver.ActionChains(self.driver, duration=0)
        if held:
            chain.key_down(held)
        chain.send_keys(*keys)
        if held:
            chain.key_up(held)
        chain.perform()

    def ready(self) -> None:
        """Until the models are known."""
        self.until(lambda: self.run("return document.querySelector('#model').value"), "models")

    def view(self, name: str) -> None:
        """Chat or compare."""
        self.find(f"#to-{name}").click()
        self.until(lambda: self.all(f"#{name}"), name)

    def send(self, text: str) -> None:
        """Into the composer of the view that is seen."""
        self.ready()
        self.all("main form textarea")[0].send_keys(text, Keys.ENTER)

    @property
    def busy(self) -> bool:
        return self.texts("main form .main") == ["Stop"]

    def begun(self) -> None:
        """Until there is text of an answer."""
        self.until(lambda: any(self.texts(".reply .text")), "text")

    def idle(self) -> None:
        self.until(lambda: not self.busy, "end of the answer")

    def ask(self, text: str) -> str:
        """Sends, and waits for the whole answer."""
        self.send(text)
        self.idle()
        return self.answer

    @property
    def answer(self) -> str:
        """What the last reply shows."""
        return self.texts(".reply .text")[-1]

    @property
    def problem(self) -> str:
        return self.until(lambda: self.texts(".problem"), "a problem")[-1]

    def complaints(self) -> list[str]:
        """What the browser logged, other than refused requests."""
        logged = (entry["message"] for entry in self.driver.get_log("browser"))  # type: ignore[no-untyped-call]
        return [message for message in logged if "Failed to load resource" not in message]

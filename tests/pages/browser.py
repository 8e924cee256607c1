"""A real browser, without a window: what it makes of a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
)

COLOUR = Path(__file__).with_name("colour.js").read_text(encoding="utf-8")
LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8")


def run(page: Path, *options: str, dark: bool, width: int = 1100) -> str:
    """The browser's standard output."""
    assert CHROMIUM
    scheme = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *scheme]
    command += [f"--window-size={width},2600", f"--user-data-dir={page.parent / 'browser'}", *options]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def look(text: str, directory: Path, *, dark: bool, width: int = 1100) -> dict[str, Any]:
    """What can be said of the page as it is laid out."""
    page = directory / "page.html"
    script = f"<script>{COLOUR}{LOOK}</script>"
    page.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    found = re.search(r'data-found="([^"]*)"', run(page, "--dump-dom", dark=dark, width=width))
    assert found
    said: dict[str, Any] = json.loads(unescape(found[1]))
    return said


def picture(text: str, directory: Path, *, dark: bool) -> bytes:
    """A PNG of the page."""
    page, image = directory / "page.html", directory / "page.png"
    page.write_text(text, encoding="utf-8")
    run(page, f"--screenshot={image}", dark=dark)
    return image.read_bytes()

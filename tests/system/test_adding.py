"""docs/adding.md, carried out: a new system in a copy of the tree, from nothing but what that page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import intaglio
from intaglio import _native
from tests.system.small import save_model

PAGE = Path(__file__).parents[2] / "docs" / "adding.md"
USE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
sys.path.insert(0, sys.argv.pop(1))
import numpy as np, torch, intaglio
from intaglio.engine.executor import Executor
from intaglio.models import open_checkpoint
from intaglio.models.reference import forward
model, output = sys.argv[1:]
settings = ["calibration.samples=4", "calibration.seq_len=32"]
intaglio.compress(model, "prototypes", output, set=settings)
made = open_checkpoint(output)
ids = np.arange(40, dtype=np.int32) + 4
expected = forward(made, torch.from_numpy(ids)[None].long())[0].numpy()
executor = Executor(made, kv="fp32")
print(np.abs(executor.logits(ids) - expected).max() / np.abs(expected).max())
print(*sorted({line.kernel for line in executor.plan if "layers" in line.sites[0]}))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the files that the page adds or changes."""
    root = tmp_path_factory.mktemp("tree")
    package = Path(intaglio.__file__).parent
    shutil.copytree(package, root / "src" / "intaglio", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(_native.__file__, root / "src" / "intaglio")
    section = PAGE.read_text(encoding="utf-8").split("## A new term: system number 46")[1].split("\n## ")[0]
    for path, code in re.findall(r"`(src/[^`]+)`[^`]*?:\n\n```\w+\n(.*?)```", section, re.DOTALL):
        with (root / path).open("a", encoding="utf-8") as file:
            file.write(code)
    return root


def test_the_page_names_three_files(tree: Path) -> None:
    package = Path(intaglio.__file__).parent
    changed = [
        path.relative_to(tree / "src" / "intaglio").as_posix()
        for path in (tree / "src" / "intaglio").rglob("*")
        if path.suffix in (".py", ".yaml")
        and not _same(path, package / path.relative_to(tree / "src" / "intaglio"))
    ]
    assert sorted(changed) == ["recipes/prototypes.yaml", "terms/__init__.py", "terms/prototypes.py"]


def test_the_new_system_compresses_and_runs(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model = save_model(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", USE, tree / "src", model, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    difference, kernels = done.stdout.splitlines()
    assert float(difference) < 1e-4
    assert kernels == "csr float16 w3"


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()

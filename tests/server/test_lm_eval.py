"""lm-eval drives the server: prompts scored by `echo`, tokens from the server itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.test_harness import CHOICE, DOCS, UNTIL, choices_by_hand
from tests.server.serving import Running

pytest.importorskip("lm_eval", reason="pip install 'intaglio[eval]'")


def test_local_completions(running: Running, tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    for name, text in {"choice": CHOICE, "until": UNTIL}.items():
        (tmp_path / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    arguments = f"model=tiny,base_url={running.url}/v1/completions,num_concurrent=4,max_length=256"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"]
    command += ["--model_args", f"{arguments},tokenizer_backend=remote", "--tasks", "tiny_choice,tiny_until"]
    command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out.json")]
    offline = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("out*.json")
    results = json.loads(written.read_text())["results"]
    assert results["tiny_choice"]["acc,none"] == choices_by_hand(tiny)
    assert results["tiny_until"]["exact_match,none"] == 0

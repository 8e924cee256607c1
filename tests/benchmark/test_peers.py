"""The other engines compute what we compute: the same greedy tokens from the same weights."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from intaglio.benchmark import run
from intaglio.benchmark.engines import Job, llama_cpp, native, openvino, transformers
from intaglio.benchmark.engines.llama_cpp import quantize
from intaglio.benchmark.entrants import named
from intaglio.cli import app as cli
from intaglio.export.gguf import write_gguf
from intaglio.models import open_checkpoint
from tests import tiny_llm

PROMPTS = np.random.default_rng(0).integers(3, tiny_llm.VOCAB, (3, 40)).tolist()
needs_llama_cpp = pytest.mark.skipif(not find_spec("llama_cpp"), reason="llama-cpp-python is not installed")
needs_openvino = pytest.mark.skipif(not find_spec("openvino_genai"), reason="openvino-genai is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for every 4-bit format, with a tokenizer that has a merge."""
    directory = tmp_path_factory.mktemp("peers") / "tiny"
    tiny_llm.write_model(directory, hidden_size=256, intermediate_size=512, num_attention_heads=4)
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["ba"] = vocab.pop(max(vocab, key=vocab.__getitem__))
    tokenizer["model"]["merges"] = [["b", "a"]]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    return directory


@pytest.fixture(scope="module")
def gguf(model: Path) -> Path:
    return write_gguf(open_checkpoint(model), model.with_name("half.gguf"))


def job(engine: str, form: str, model: Path, kv: str | None = None) -> Job:
    return Job(engine, form, str(model), 1, 192, 3, kv=kv)


def ours(model: Path) -> native.Native:
    return native.Native(job("intaglio", "", model, "fp32"))


def test_transformers_draws_our_tokens_and_remembers_the_context(model: Path) -> None:
    theirs, own = transformers.Transformers(job("transformers", "fp32", model)), ours(model)
    for _ in range(2):
        assert theirs.decode(PROMPTS[0], 5) > 0
        assert own.decode(PROMPTS[0], 5) > 0
        assert int(theirs._next) == own._next
    assert theirs._cache.get_seq_length() == len(PROMPTS[0]) + 5
    assert theirs.batch(PROMPTS, 3) > 0
    assert (theirs.weight_bytes, theirs.kv_bits) == (open_checkpoint(model).nbytes, 32)


@needs_llama_cpp
def test_llama_cpp_draws_our_tokens(model: Path, gguf: Path) -> None:
    theirs, own = llama_cpp.LlamaCpp(job("llama_cpp", "F16", gguf)), ours(model)
    expected = []
    for prompt in PROMPTS:
        own.decode(prompt, 1)
        expected.append(own._next)
    theirs._clear(3, 64)
    assert theirs._enter(PROMPTS) == expected
    for _ in range(2):
        assert theirs.decode(PROMPTS[1], 4) > 0
        assert theirs._next == [expected[1]]
    assert theirs.prefill(PROMPTS[0]) > 0
    assert theirs.batch(PROMPTS, 4) > 0
    assert theirs.vocab == tiny_llm.VOCAB


@needs_llama_cpp
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K_M"])
def test_llama_cpp_runs_its_own_formats_with_coded_keys_and_values(
    kind: str, gguf: Path, tmp_path: Path
) -> None:
    made = quantize(gguf, tmp_path / "q.gguf", kind, 1)
    assert made.stat().st_size < 0.5 * gguf.stat().st_size
    engine = llama_cpp.LlamaCpp(job("llama_cpp", kind, made, "q4_0"))
    assert engine.decode(PROMPTS[0], 4) > 0
    assert engine.kv_bits == 4.5
    assert 0.2 < engine.weight_bytes / open_checkpoint(gguf).nbytes < 0.5


@needs_openvino
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_openvino_runs_a_file_of_ours(kind: str, model: Path, tmp_path: Path) -> None:
    made = write_gguf(open_checkpoint(model), tmp_path / "q.gguf", kind, "Q8_0")
    engine = openvino.OpenVino(job("openvino", kind, made))
    assert engine.prefill(PROMPTS[0]) > 0
    assert engine.decode(PROMPTS[1], 4) > 0
    assert engine.batch(PROMPTS, 4) > 0
    assert not engine._pipeline.has_non_finished_requests()
    assert engine.vocab == tiny_llm.VOCAB


def test_all_that_are_installed_take_part(model: Path) -> None:
    args = ("--prefill", "none", "--batch", "none", "--context", "64", "--repeats", "1", "-t", "1", "--json")
    done = CliRunner().invoke(cli.app, ["bench", str(model), *args])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert set(record["decode"]) | set(record["skipped"]) == {
        "intaglio",
        *named("llama.cpp,openvino,transformers"),
    }
    assert {"intaglio", "transformers"} <= set(record["decode"])
    assert {start["engine"] for start in record["starts"]} == set(record["decode"])


@needs_llama_cpp
def test_long_contexts_are_measured_with_coded_keys_and_values_too(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LONG", 128)
    args = (
        "--prefill",
        "none",
        "--batch",
        "none",
        "--context",
        "64,128",
        "--repeats",
        "1",
        "-t",
        "1",
        "--json",
    )
    done = CliRunner().invoke(cli.app, ["bench", str(model), *args, "--peers", "llama.cpp"])
    assert done.exit_code == 0, done.output
    cells = [cell for cell in json.loads(done.stdout)["cells"] if cell["engine"] == "llama_cpp"]
    short = {cell["format"]: cell["median"] for cell in cells if cell["size"] == 64}
    assert sorted(short) == ["Q4_0", "Q4_1", "Q4_K_M"]
    best = max(short, key=short.__getitem__)
    assert sorted(c["format"] for c in cells if c["size"] == 128) == sorted([*short, f"{best} kv q4_0"])

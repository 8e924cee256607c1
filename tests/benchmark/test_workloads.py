"""Workloads as data, what fits a model, and what each costs."""

from __future__ import annotations

import pytest

from intaglio.benchmark.cost import cost
from intaglio.benchmark.synthetic import PREFIX, original, shapes
from intaglio.benchmark.workloads import SIZES, Workload, fitting, needs, planned
from intaglio.engine.executor import Executor
from intaglio.errors import UsageError
from intaglio.models.spec import ModelSpec
from intaglio.terms import decode
from tests.engine.small import far, tokens
from tests.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return tiny_checkpoint("llama").spec


def test_the_plan_has_what_is_asked_for_and_the_headlines() -> None:
    assert [w.name for w in planned(SIZES)] == [
        *("prefill 128", "prefill 512", "prefill 2048"),
        *("decode at 64", "decode at 1024", "decode at 4096", "decode at 8192"),
        *("batch of 1", "batch of 4", "batch of 16", "batch of 32", "batch of 64"),
    ]
    assert [w.name for w in planned({"prefill": (), "decode": (2048,)})] == ["decode at 64", "decode at 2048"]
    with pytest.raises(UsageError, match="decode of 32 cannot be measured: the least is 33"):
        planned({"decode": (32,)})


def test_what_is_longer_than_the_model_is_left_out() -> None:
    fits, left_out = fitting(planned(SIZES), 1024)
    assert [w.name for w in left_out] == ["prefill 2048", "decode at 4096", "decode at 8192"]
    assert needs(fits) == (1024, 64)
    assert needs([Workload("batch", 4)]) == (192, 4)


def test_tokens_are_those_that_went_in_and_came_out() -> None:
    assert (Workload("batch", 32).tokens, Workload("batch", 32).generated) == (32 * 192, 32 * 64)
    assert (Workload("prefill", 512).tokens, Workload("decode", 4096).tokens) == (512, 32)


def test_a_decode_reads_all_weights_for_every_token(spec: ModelSpec) -> None:
    weights = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96  # q o, k v, gate up down
    found = cost(spec, Workload("decode", 64), weight_bytes=10_000, kv_bits=4)
    attention = 2 * 64 * (64 - 16)  # 32 steps that end at 64 see 48 tokens on average
    assert found.macs == pytest.approx(32 * (2 * (weights + attention) + 131 * 64))
    assert found.nbytes == pytest.approx(32 * (10_000 + 48 * 2 * 2 * 32 * 4 / 8))


def test_of_a_prompts_last_layer_little_is_wanted(spec: ModelSpec) -> None:
    found = cost(spec, Workload("prefill", 512), weight_bytes=10_000, kv_bits=4)
    early, late = 64 * 64 + 64 * 32 * 2, 64 * 64 + 3 * 64 * 96  # q k v, o gate up down
    attention = 2 * 64 * 256  # a token sees half of the others
    assert found.macs == pytest.approx(512 * (2 * (early + attention) + late) + late + 131 * 64)


def test_more_at_once_is_more_for_each_byte(spec: ModelSpec) -> None:
    def intensity(kind: str, size: int) -> float:
        return cost(spec, Workload(kind, size), 50_000, 4).intensity  # type: ignore[arg-type]

    assert intensity("decode", 64) < intensity("batch", 1) < intensity("batch", 4) < intensity("batch", 32)
    assert intensity("prefill", 128) < intensity("prefill", 512)


@pytest.mark.parametrize(("name", "billions"), [("llama-3.2-1b", 1.2358), ("llama-3.2-3b", 3.2127)])
def test_synthetic_shapes_are_the_public_ones(name: str, billions: float) -> None:
    checkpoint = original(PREFIX + name)
    matrices = sum(rows * cols for rows, cols in shapes(checkpoint.spec).values())
    assert matrices + sum(v.size for v in checkpoint.vectors.values()) == pytest.approx(
        billions * 1e9, rel=1e-4
    )


def test_a_synthetic_model_runs_on_the_integer_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    from intaglio.benchmark import synthetic

    small = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes = {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 300}
    monkeypatch.setitem(synthetic.SHAPES, "small", synthetic.LLAMA_3_2 | small | sizes)
    executor = Executor(synthetic.open_model("synthetic:small"), threads=1, max_sequences=1)
    kernels = {line.kernel for line in executor.plan if "layers" in line.sites[0]}
    assert (kernels, executor.kv_bits) == ({"w4a8-two-level"}, 4)
    found = executor.logits(tokens(20, vocab=300))
    assert 0.1 < found.std() < 10
    again = Executor(synthetic.open_model("synthetic:small"), threads=1, max_sequences=1)
    assert far(again.logits(tokens(20, vocab=300)), found) == 0


@pytest.mark.parametrize("name", ["model.embed_tokens", "model.layers.0.mlp.down_proj"])
def test_synthetic_weights_are_like_trained_ones(name: str) -> None:
    from intaglio.benchmark.synthetic import _compressed, _plain

    for make in (_compressed, _plain):
        w = decode(make(name, (256, 512)))
        assert abs(float(w.mean())) < 0.1 * float(w.std())
        assert float(w.std()) == pytest.approx(512**-0.5, rel=0.1)


def test_an_unknown_synthetic_model_names_those_there_are() -> None:
    from intaglio.benchmark.synthetic import open_model

    with pytest.raises(UsageError, match=r"known are llama-3.2-1b, llama-3.2-3b"):
        open_model("synthetic:llama-9")

"""The whole run on a small random model: what comes out, and what is said when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import intaglio
from intaglio.compression import Event, Report
from intaglio.errors import IntaglioError, UsageError
from intaglio.formats import Floating
from intaglio.models import open_checkpoint, texts, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Dense
from tests.models.gguf_files import Q, write_gguf
from tests.models.tiny import tiny
from tests.system.small import SET, contents, names, save_model, tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def run(model: Path, output: Path, recipe: str = "qserve", *more: str, **options: object) -> Report:
    return intaglio.compress(model, recipe, output, set=(*SET, *more), threads=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "recipe",
    ["rtn-w8a8", "rtn-w4", "gptq-w3", "awq-w4", "rtn-w4a8kv4-channel", "qserve", "spqr", "atom"],
)
def test_a_run_leaves_a_verified_artifact_and_nothing_else(model: Path, tmp_path: Path, recipe: str) -> None:
    report = run(model, tmp_path / "out", recipe)
    head = ["lm_head"] if recipe == "qserve" else []
    count = 21 + len(head)
    assert names(tmp_path) == ["out"]
    assert (report.coverage.coded, report.coverage.targeted) == (count, count)
    assert report.coverage.left == tuple(n for n in ("embedding", "lm_head", "norms") if n not in head)
    assert len(report.sites) == count
    assert all(0 < site.error < 0.2 for site in report.sites)
    assert report.verification.kl_mean < 1
    assert report.verification.fault is None
    checkpoint = open_checkpoint(tmp_path / "out")
    assert report.nbytes == checkpoint.nbytes
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["coverage"]["coded"] == count
    assert stored["seconds"] is None
    assert report.seconds


def test_the_better_method_has_the_smaller_error(model: Path, tmp_path: Path) -> None:
    errors = {
        recipe: np.mean([site.error for site in run(model, tmp_path / recipe, recipe).sites])
        for recipe in ("gptq-w4", "gptq-w3")
    }
    assert errors["gptq-w4"] < errors["gptq-w3"]


def test_the_same_run_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for place in ("a", "b"):
        run(model, tmp_path / place / "out")
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")


@pytest.mark.parametrize("recipe", ["rtn-w4", "hqq-w3", "milo", "milo-w3", "ptqtp"])
def test_what_needs_no_text_asks_for_none(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a text to calibrate on was read")

    monkeypatch.setattr(texts, "documents", refused)
    report = run(model, tmp_path / "out", recipe, calibration=tmp_path / "none.txt")
    assert report.calibration is None
    assert report.verification.fault is None
    with pytest.raises(AssertionError, match="was read"):
        run(model, tmp_path / "other", "milo-weighted")


def test_the_report_says_what_was_observed(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    report = run(model, tmp_path / "out", "gptq-w4", calibration=[text, "pydoc"], seed=3, samples=5)
    assert report.calibration is not None
    assert (report.calibration.text, report.calibration.windows) == ("text.txt, pydoc", 5)
    assert report.calibration.seed == 3


def test_a_transform_that_is_refused_or_off_is_reported(tmp_path: Path) -> None:
    olmo = save_model(tmp_path / "model", "olmo2")
    report = run(olmo, tmp_path / "out", "qserve", "transforms.reorder.enabled=false")
    told = {one.type: one.reason for one in report.transforms}
    assert told["reorder"] == "switched off"
    assert "does not commute" in (told["rotate"] or "")
    assert told["smooth_output"] is None
    assert "left out rotate: " in report.summary()


@pytest.mark.parametrize(("rest", "dtype"), [("null", np.float32), ("float16", np.float16)])
def test_a_matrix_without_a_rule_stays_as_it_was(model: Path, tmp_path: Path, rest: str, dtype: type) -> None:
    changes = ("weights.0.match=[down]", "weights.0.layers='1-2'", f"rest={rest}")
    report = run(model, tmp_path / "out", "rtn-w4", *changes)
    assert str(report.coverage).startswith("2/2 linears")
    original, coded = open_checkpoint(model).linears, open_checkpoint(tmp_path / "out").linears
    for name in ("model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj", "model.embed_tokens"):
        found = coded[name].state["0.value"]
        assert found.dtype == dtype
        assert np.array_equal(original[name].state["0.value"].astype(dtype), found)


@pytest.mark.parametrize("case", ["llama", "llama-tied"])
def test_codes_of_a_gguf_file_stay_unless_a_transform_changes_them(
    model: Path, tmp_path: Path, case: str
) -> None:
    path = write_gguf(tiny(case), "llama", tmp_path / "m.gguf", kind=Q.Q8_0)
    source = replace(open_checkpoint(path), files=open_checkpoint(model).files)
    intaglio.compress(source, "rtn-w8a8", tmp_path / "out", set=SET, threads=1)
    before, after = (one.linears["model.embed_tokens"] for one in (source, open_checkpoint(tmp_path / "out")))
    if case == "llama":  # its own head, so the rotation is folded into the embedding
        assert after.terms == (Dense(Floating("float16")),)
    else:
        assert after.terms == before.terms
        assert all(np.array_equal(before.state[name], after.state[name]) for name in before.state)


def test_embedding_and_head_can_be_coded(model: Path, tmp_path: Path) -> None:
    report = run(model, tmp_path / "out", "rtn-w4", "weights.0={match: [embedding, lm_head], "
                 "terms: [{type: dense, format: {type: int, bits: 8, group_size: 64}}]}")  # fmt: skip
    assert report.coverage.coded == 2


LAX = ("limits.kl=100", "limits.perplexity=1000000")
FORM = "{type: dense, format: {type: mixed, bits: 3, group_size: 16}}"


@pytest.mark.parametrize("case", ["llama", "llama-tied"])
@pytest.mark.parametrize("order", ["null", "power"])
def test_the_head_is_coded_by_what_it_reads(tmp_path: Path, case: str, order: str) -> None:
    """Error feedback under the last hidden states costs the scores less than rounding does."""
    model, text = save_model(tmp_path / "model", case), " ".join(texts.calibration_documents())[:400]
    ids = torch.tensor([tokenizer().encode(text).ids])
    expected, lost = transformer.forward(open_checkpoint(model), ids), {}
    for solver in ("greedy", "obs"):
        rule = f"{{match: [lm_head], terms: [{FORM}], solver: {{type: {solver}}}, order: {order}}}"
        report = run(model, tmp_path / solver, "rtn-w4", f"weights.0={rule}", "rest=null", *LAX)
        assert [site.name for site in report.sites] == [
            "lm_head" if case == "llama" else "model.embed_tokens"
        ]
        coded = open_checkpoint(tmp_path / solver)
        found = transformer.head(
            coded.spec, transformer.outer_weights(coded), hidden(open_checkpoint(model), ids)
        )
        lost[solver] = float((found - expected).square().mean())
    assert lost["obs"] < 0.95 * lost["greedy"]


def hidden(checkpoint: Checkpoint, ids: torch.Tensor) -> torch.Tensor:
    """What the last block puts out."""
    spec = checkpoint.spec
    x = transformer.embed(spec, transformer.outer_weights(checkpoint), ids)
    for layer in range(spec.num_layers):
        x = transformer.block(spec, layer, transformer.layer_weights(checkpoint, layer), x)
    return x


def test_an_existing_output_is_replaced_only_when_asked(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(UsageError, match=r"exists and is not empty"):
        run(model, out, "rtn-w4")
    assert names(out) == ["precious"]
    run(model, out, "rtn-w4", force=True)
    assert "config.json" in names(out)
    assert names(tmp_path) == ["out"]


def test_a_broken_result_is_loud_and_kept_aside(model: Path, tmp_path: Path) -> None:
    with pytest.raises(IntaglioError, match=r"is broken: its mean KL .* above the recipe's limit") as caught:
        run(model, tmp_path / "out", "rtn-w3", "limits.kl=1e-9")
    assert caught.value.exit_code == 1
    assert names(tmp_path) == ["out.broken"]
    report = json.loads((tmp_path / "out.broken" / "report.json").read_text())
    assert "mean KL" in report["verification"]["fault"]


def spoiled(model: Path, to: Path, value: float) -> Path:
    save_model(to)
    weights = load_file(to / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][3, 5] = value
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_broken_weights_is_refused_by_the_tensors_name(
    model: Path, tmp_path: Path, value: float
) -> None:
    with pytest.raises(
        IntaglioError, match=r"model\.layers\.2\.mlp\.up_proj: 1 of \d+ weights are NaN or inf"
    ):
        run(spoiled(model, tmp_path / "model", value), tmp_path / "out")
    assert names(tmp_path) == ["model"]


def short_text(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "short.txt").write_text("too short")
    return {"calibration": tmp_path / "short.txt"}


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (short_text, 1, "has 9 tokens, shorter than one window of 32"),
        (lambda _: {"calibration": "none.txt"}, 1, "none.txt: no such file"),
        (lambda _: {"seq_len": 1000}, 1, "reads at most 256 tokens"),
        (lambda _: {"samples": 0}, 2, "Expected `int` >= 1"),
        (lambda _: {"resume": False, "more": "weights.0.match=[router]"}, 2, "'router' matches nothing"),
        (lambda _: {"more": "weights=[{match: [linear]}]"}, 2, "codes no matrix"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    model: Path, tmp_path: Path, options: Callable[[Path], dict[str, str]], code: int, expected: str
) -> None:
    asked = options(tmp_path)
    before = names(tmp_path)
    more = [asked.pop("more")] if "more" in asked else []
    with pytest.raises(IntaglioError, match=expected) as caught:
        run(model, tmp_path / "out", "qserve", *more, **asked)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == before


def test_a_compressed_model_is_not_compressed_again(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "once", "rtn-w4")
    with pytest.raises(UsageError, match="is compressed already"):
        run(tmp_path / "once", tmp_path / "twice", "rtn-w4")
    assert names(tmp_path) == ["once"]


def test_matrices_of_one_input_may_read_it_in_different_formats(model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    terms, activation = "terms: [{type: dense, format: {type: int}}]", "{type: int, bits: 8, symmetric: true}"
    rules = f"[{{{terms}}}, {{match: [q], {terms}, activation: {activation}}}]"
    recipe.write_text(f"{{name: r, source: '', summary: '', weights: {rules}}}")
    run(model, tmp_path / "out", str(recipe))
    coded = open_checkpoint(tmp_path / "out").linears
    assert coded["model.layers.0.self_attn.q_proj"].activation is not None
    assert coded["model.layers.0.self_attn.k_proj"].activation is None


def test_progress_counts_the_blocks(model: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    run(model, tmp_path / "out", "gptq-w4", progress=events.append)
    assert [event.done for event in events] == [0, 1, 2, 3, 3]
    assert all(event.total == 3 for event in events)
    assert "6 windows of 32 tokens of pydoc" in events[0].message
    assert "error" in events[1].message


def test_what_a_rotation_adds_to_a_tied_model_is_said(tmp_path: Path) -> None:
    report = run(save_model(tmp_path / "model", "llama-tied"), tmp_path / "out", "rtn-w8a8")
    assert report.coverage.left == ("embedding (tied)", "norms")
    assert report.coverage.added == ("embed_proj", "head_proj")
    assert str(report.coverage).endswith("norms; added: embed_proj, head_proj")

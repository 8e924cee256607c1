"""Runs that train what they coded: each stage helps on unseen text and keeps what it must."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import intaglio
from intaglio.compression import Event, InterruptedRunError, Report
from intaglio.compression.calibration import draw
from intaglio.formats import Bsr
from intaglio.models import open_checkpoint, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import load_recipe
from tests.system.small import contents, names, save_model

SET = (
    "calibration.samples=24",
    "calibration.seq_len=32",
    "tune.blocks.weights=2e-3",
    "tune.scales.rate=1e-3",
)
QUARTERS = {
    name: (f"weights.0.terms.group_sparse.sparsity={dropped}",)
    for name, dropped in (("a quarter", 0.25), ("three quarters", 0.75))
}
STAGES = {
    **QUARTERS,
    "none": ("tune=null",),
    "blocks": ("tune.scales.enabled=false",),
    "both": (),
    "dense": ("weights.0.terms=[{type: dense, format: {type: int, bits: 2, group_size: 64}}]",),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def runs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Report, Checkpoint]]:
    """Without training, after the first stage, after both; another format and other shares after both."""
    made = {}
    for name, more in STAGES.items():
        output = tmp_path_factory.mktemp(name) / "out"
        made[name] = (compress(model, output, *more), open_checkpoint(output))
    return made


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed run writes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    compress(model, output)
    return contents(output)


def compress(model: Path, output: Path, *more: str, **options: object) -> Report:
    settings = [one for one in SET if not (one.startswith("tune.") and "tune=null" in more)]
    return intaglio.compress(model, "gqsa", output, set=(*settings, *more), threads=1, **options)  # type: ignore[arg-type]


Runs = dict[str, tuple[Report, Checkpoint]]


def matrices(checkpoint: Checkpoint) -> dict[str, dict[str, np.ndarray]]:
    inside = [name for name in checkpoint.linears if name.startswith("model.layers.")]
    return {name: checkpoint.linears[name].term_state(0) for name in inside}


def test_each_stage_is_nearer_to_the_original_on_unseen_text(runs: Runs) -> None:
    kl = {name: report.verification.kl_mean for name, (report, _) in runs.items()}
    assert kl["blocks"] < 0.95 * kl["none"]
    assert kl["both"] < 0.99 * kl["blocks"]


def test_more_dropped_is_further_from_the_original_after_both(runs: Runs) -> None:
    kl = [runs[name][0].verification.kl_mean for name in ("a quarter", "both", "three quarters")]
    assert all(less < 0.9 * more for less, more in pairwise(kl))


def test_blocks_end_with_less_error_than_they_began(runs: Runs) -> None:
    for site in runs["both"][0].sites:
        assert site.notes["block_error"] < site.notes["block_error_before"]
    assert "block_error" not in runs["none"][0].sites[0].notes


@pytest.mark.parametrize("name", ["none", "blocks", "both"])
def test_every_row_keeps_its_groups_and_the_others_are_zero(runs: Runs, name: str) -> None:
    checkpoint = runs[name][1]
    for site, state in matrices(checkpoint).items():
        coded, layout = checkpoint.linears[site], Bsr(4, 16)
        kept = layout.kept(state, coded.shape)
        assert (kept.sum(1) == round(0.5 * kept.shape[1])).all()
        groups = layout.values(state, coded.shape).reshape(*kept.shape, 16)
        assert not groups[~kept].any()


def test_the_second_stage_moves_scales_alone(runs: Runs) -> None:
    before, after = (matrices(runs[name][1]) for name in ("blocks", "both"))
    for site, state in before.items():
        for array in ("kept", "codes", "zero"):
            assert np.array_equal(state[array], after[site][array])
    assert all(not np.array_equal(state["scale"], after[site]["scale"]) for site, state in before.items())


def test_progress_says_what_training_brought(model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    compress(model, tmp_path / "out", progress=lambda event: said.append(event.message))
    assert re.search(r"layer 0: error .* trained from [\d.]+% to [\d.]+% of the block", said[1])
    assert said[4].startswith("end to end: step 1 of 24, loss ")


def test_training_reads_what_it_needs_though_statistics_ask_for_less(model: Path, tmp_path: Path) -> None:
    report = compress(model, tmp_path / "out", "calibration.samples=4", "tune.samples=12")
    assert report.calibration
    assert report.calibration.windows == 12


def test_dense_codes_can_be_trained_too(runs: Runs) -> None:
    report, _ = runs["dense"]
    assert report.coverage.coded == 21
    assert all(site.notes["block_error"] < site.notes["block_error_before"] for site in report.sites)


def test_what_was_coded_without_a_text_can_be_trained_on_one(model: Path, tmp_path: Path) -> None:
    """Nearest codes ask nothing of the inputs; their training does."""
    report = compress(model, tmp_path / "out", *STAGES["dense"], "weights.0.solver={type: greedy}")
    assert all(site.notes["block_error"] < site.notes["block_error_before"] for site in report.sites)


def test_what_blocks_are_trained_towards_is_the_original(model: Path, tmp_path: Path) -> None:
    """Its own blocks on its own hidden states: what it read last gives its very predictions."""
    with pytest.raises(InterruptedRunError):
        compress(model, tmp_path / "out", progress=Interrupt("step 1 of"))
    kept = sorted((tmp_path / "out.partial" / "originals-00003").glob("*.npy"))
    hidden = torch.from_numpy(np.concatenate([np.load(path) for path in kept]))
    checkpoint = open_checkpoint(model)
    windows = draw(checkpoint, "pydoc", load_recipe("gqsa", SET).calibration)
    expected = transformer.forward(checkpoint, torch.from_numpy(windows.tokens))
    found = transformer.head(checkpoint.spec, transformer.outer_weights(checkpoint), hidden)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


class Interrupt:
    """Ctrl-C at the first event that says so."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __call__(self, event: Event) -> None:
        if self.words in event.message:
            raise KeyboardInterrupt


@pytest.mark.parametrize("words", ["layer 0:", "layer 1:", "step 1 of", "step 16 of", "writing the artifact"])
def test_a_run_stopped_in_any_stage_continues_to_the_same_bytes(
    model: Path, tmp_path: Path, whole: dict[str, str], words: str
) -> None:
    with pytest.raises(InterruptedRunError):
        compress(model, tmp_path / "out", progress=Interrupt(words))
    assert names(tmp_path) == ["out.partial"]
    compress(model, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == whole
    assert names(tmp_path) == ["out"]

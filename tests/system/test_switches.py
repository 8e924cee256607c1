"""QServe without one of its steps, and at the precisions it is compared with: one setting each."""

from __future__ import annotations

from pathlib import Path

import pytest

import intaglio
from intaglio.models import open_checkpoint
from tests.system.small import SET, save_model

STEPS = {
    "rotate": "transforms.rotate.enabled=false",
    "smooth_attention": "transforms.smooth_attention.enabled=false",
    "smooth_output": "transforms.smooth_output.enabled=false",
    "reorder": "transforms.reorder.enabled=false",
    "clipping": "weights.0.clip.enabled=false",
    "error feedback": "weights.0.solver={type: greedy}",
    "two levels": "weights.0.terms.0.format={type: int, bits: 4, group_size: 64}",
    "groups": "weights.0.terms.0.format={type: int, bits: 4}",
    "4-bit weights": "weights.0.terms.0.format={type: int, bits: 8, symmetric: true}",
    "8-bit activations": "weights.0.activation=null",
    "4-bit keys": "cache.bits=8",
    "coded keys": "cache=null",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), num_hidden_layers=1)


def run(model: Path, output: Path, *changes: str) -> tuple[object, object]:
    """What the matrices of its layer mean and read, and how keys and values are remembered."""
    intaglio.compress(model, "qserve", output, set=(*SET, *changes), threads=1)
    made = open_checkpoint(output)
    linears = {
        name: (one.terms, one.activation, {key: array.tobytes() for key, array in one.state.items()})
        for name, one in made.linears.items()
        if "layers" in name
    }
    return linears, made.config["quantization_config"]["cache"]


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object]:
    return run(model, tmp_path_factory.mktemp("whole") / "out")


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_a_switch(
    model: Path, whole: tuple[object, object], tmp_path: Path, step: str
) -> None:
    linears, cache = run(model, tmp_path / "out", STEPS[step])
    of_keys = STEPS[step].startswith("cache")
    assert (linears == whole[0]) == of_keys
    assert (cache == whole[1]) == (not of_keys)

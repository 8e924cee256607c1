"""What transformers, with the library that vLLM reads these files with, makes of an exported directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from intaglio.errors import IntaglioError, UsageError
from intaglio.export import export
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array
from tests.export.small import IDS, coded, logits

pytest.importorskip("compressed_tensors")
pytestmark = pytest.mark.filterwarnings("ignore")  # of that library

LAYERS = 2 * 7


def read(directory: Path) -> Array:
    """The logits of the exported model, computed by transformers in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor(IDS)[None]).logits[0].numpy()


def close(found: Array, wanted: Array) -> None:
    """Equal but for float16 and the order of additions."""
    assert np.abs(found - wanted).mean() < 5e-3 * wanted.std()


@pytest.mark.parametrize("case", ["llama", "llama-tied", "llama-biased", "qwen2", "qwen3", "gemma2"])
def test_transformers_reads_the_same_model(case: str, tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "rtn-w4", "weights.0.terms.0.format.group_size=32", case=case)
    found = export(checkpoint, tmp_path / "out")
    assert found.matrices == {"int4 g32": LAYERS}
    close(read(tmp_path / "out"), logits(checkpoint))


@pytest.mark.parametrize(
    ("bits", "symmetric", "group"),
    [(2, False, 32), (3, True, 32), (3, False, 16), (4, True, 32), (5, False, 32), (8, False, None), (8, True, 32)],
)
def test_every_width_of_codes(bits: int, symmetric: bool, group: int | None, tmp_path: Path) -> None:
    form = {"bits": bits, "symmetric": str(symmetric).lower(), "group_size": group or "null"}
    changes = [f"weights.0.terms.0.format.{key}={value}" for key, value in form.items()]
    checkpoint = coded(tmp_path, "rtn-w4", *changes)
    export(checkpoint, tmp_path / "out")
    close(read(tmp_path / "out"), logits(checkpoint))


def bytes_by_row(tmp_path: Path) -> Checkpoint:
    off = ["transforms.0.enabled=false", "transforms.1.enabled=false"]
    return coded(tmp_path, "rtn-w8a8", *off)


def test_eight_bits_beside_inputs_of_eight(tmp_path: Path) -> None:
    checkpoint = bytes_by_row(tmp_path)
    found = export(checkpoint, tmp_path / "out")
    assert "int8 channel x int8" in found.matrices
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    groups = config["config_groups"].values()
    assert {"int-quantized"} <= {group["format"] for group in groups}
    assert all(group["input_activations"]["dynamic"] for group in groups if group["input_activations"])
    wanted = logits(checkpoint)
    assert np.abs(read(tmp_path / "out") - wanted).mean() < 0.05 * wanted.std()  # its inputs may stay float


def test_forms_side_by_side(tmp_path: Path) -> None:
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(
        "name: mixed\nweights:\n"
        "  - match: [linear]\n    terms: [{type: dense, format: {type: int, bits: 4, group_size: 32}}]\n"
        "  - match: [down]\n    terms: [{type: dense, format: {type: int, bits: 8, group_size: 32}}]\n"
    )
    checkpoint = coded(tmp_path, str(recipe))
    assert export(checkpoint, tmp_path / "out").matrices == {"int4 g32": 12, "int8 g32": 2}
    close(read(tmp_path / "out"), logits(checkpoint))


def test_what_has_no_codes_is_refused_or_plain(tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "ptqtp", "weights.0.terms.0.group_size=32")
    with pytest.raises(UsageError, match=r"no codes for 14 of 14 matrices, as for .*trits.* --dense"):
        export(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export(checkpoint, tmp_path / "out", dense=True).matrices == {"float16": LAYERS}
    close(read(tmp_path / "out"), logits(checkpoint))


def test_zeros_between_codes_are_refused(tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "hqq-w4", "weights.0.terms.0.format.group_size=32")
    with pytest.raises(UsageError, match="no codes for 14 of 14"):
        export(checkpoint, tmp_path / "out")


def test_a_rotated_model_is_refused(tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "qserve", "weights.0.terms.0.format.group_size=32")
    with pytest.raises(UsageError, match="is rotated"):
        export(checkpoint, tmp_path / "out")


def test_what_stays_behind_is_said(tmp_path: Path) -> None:
    changes = ["transforms.rotate.enabled=false", "weights.0.terms.0.format.group_size=32"]
    checkpoint = coded(tmp_path, "qserve", *changes)
    found = export(checkpoint, tmp_path / "out")
    assert found.matrices == {"int4 g32": LAYERS}
    assert found.notes[0].startswith("14 matrices read float inputs there")
    assert "here they take 4 bits" in found.notes[1]


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "rtn-w4", "weights.0.terms.0.format.group_size=32")
    export(checkpoint, tmp_path / "out")
    with pytest.raises(UsageError, match="--force"):
        export(checkpoint, tmp_path / "out")
    export(checkpoint, tmp_path / "out", dtype="bfloat16", force=True)


def test_formats_and_dtypes_are_checked(tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "rtn-w4", "weights.0.terms.0.format.group_size=32")
    with pytest.raises(UsageError, match="one of compressed-tensors, gguf"):
        export(checkpoint, tmp_path / "out", "onnx")
    with pytest.raises(UsageError, match="one of float16, bfloat16, float32"):
        export(checkpoint, tmp_path / "out", dtype="int8")


def test_scales_that_float16_cannot_hold(tmp_path: Path) -> None:
    checkpoint = coded(tmp_path, "rtn-w4", "weights.0.terms.0.format.group_size=null")
    site = "model.layers.0.self_attn.q_proj"
    one = checkpoint.linears[site]
    huge = {**one.state, "0.scale": one.state["0.scale"] * np.float32(1e9)}
    broken = checkpoint.replace({site: type(one)(one.shape, one.terms, huge)})
    with pytest.raises(IntaglioError, match=f"a scale of {site} does not fit float16"):
        export(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()

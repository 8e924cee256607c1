"""From config.json to a spec, and from a spec to the tensors of a file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import IntaglioError
from intaglio.models import layout
from intaglio.models.architectures import ARCHITECTURES, architecture, linear_shape, spec_from_config
from intaglio.models.rope import rope, table
from intaglio.models.spec import Layer, ModelSpec, Rope
from tests.models import tiny
from tests.models.tiny import CASES, SMALL, save_tiny

LLAMA = SMALL | {"architectures": ["LlamaForCausalLM"]}


def of(name: str, **fields: Any) -> ModelSpec:
    """The spec of a hand-written config.json."""
    return spec_from_config(json.loads(json.dumps(SMALL | {"architectures": [name]} | fields)))


def test_every_architecture_has_a_tiny_model() -> None:
    assert {f"{kind}ForCausalLM" for kind, _, _ in CASES.values()} == set(ARCHITECTURES)
    assert {tiny.tiny_config(case).model_type for case in CASES} == {
        a.model_type for a in ARCHITECTURES.values()
    }


@pytest.mark.parametrize("case", CASES)
def test_sources_are_exactly_the_tensors_of_a_file(case: str, tmp_path: Path) -> None:
    save_tiny(case, tmp_path)
    config = json.loads((tmp_path / "config.json").read_bytes())
    spec = spec_from_config(config)
    parts = architecture(config).sources(spec, config)
    shapes = {**layout.linears(spec), **layout.vectors(spec)}
    assert {name.removesuffix(".weight") for name in parts if name.endswith(".weight")} == set(shapes)
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        unread = {name: np.ones(file.get_slice(name).get_shape()[0], bool) for name in file.keys()}  # noqa: SIM118
        for name, part in parts.items():
            site, _, kind = name.rpartition(".")
            tensor = file.get_tensor(part.name)[slice(*(part.rows or (None,)))]
            assert tensor.shape == (shapes[site] if kind == "weight" else shapes[site][:1]), name
            rows = unread[part.name][slice(*(part.rows or (None,)))]
            assert rows.all(), f"{part.name} is read twice"
            rows[:] = False
    assert not [name for name, rows in unread.items() if rows.any()]


@pytest.mark.parametrize("case", CASES)
def test_a_saved_config_describes_what_the_live_one_does(case: str, tmp_path: Path) -> None:
    config = tiny.tiny_config(case)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_bytes())
    assert spec_from_config(saved) == spec_from_config(config.to_dict())


@pytest.mark.parametrize("case", CASES)
def test_frequencies_are_those_of_transformers(case: str) -> None:
    model = tiny.tiny(case)
    spec = spec_from_config(model.config.to_dict())
    theirs = {
        name: b for name, b in model.named_buffers() if name.endswith("inv_freq") and "orig" not in name
    }
    ours = [r for r in spec.ropes if r.dim]
    assert len(theirs) >= len(ours)
    for mine in ours:
        found = torch.tensor(mine.inv_freq)
        assert any(
            len(b) == len(found) and torch.allclose(b, found, rtol=1e-6, atol=0) for b in theirs.values()
        )


# --- older files


def test_older_rope_fields_mean_the_same() -> None:
    scaling = {"type": "linear", "factor": 4.0}
    older = of("LlamaForCausalLM", rope_theta=5e5, rope_scaling=scaling)
    newer = of("LlamaForCausalLM", rope_parameters={"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0})
    assert older == newer
    assert of("LlamaForCausalLM") == of("LlamaForCausalLM", rope_theta=10_000, rope_scaling=None)


def test_older_gemma3_turns_sliding_layers_by_their_own_base() -> None:
    older = of(
        "Gemma3ForCausalLM",
        num_hidden_layers=6,
        rope_theta=2e6,
        rope_local_base_freq=500,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        sliding_window=16,
        sliding_window_pattern=3,
    )
    local, whole = older.ropes
    assert local == rope({"rope_theta": 500.0}, 256, 256)
    assert whole == rope({"rope_type": "linear", "rope_theta": 2e6, "factor": 8.0}, 256, 256)
    assert [layer.window for layer in older.layers] == [16, 16, None, 16, 16, None]
    assert [layer.rope for layer in older.layers] == [0, 0, 1, 0, 0, 1]
    assert of("Gemma3ForCausalLM", rope_theta=2e6).ropes[0] == rope({"rope_theta": 1e4}, 256, 256)


def test_older_phi3_calls_longrope_su_and_keeps_its_length_outside() -> None:
    scaling = {"type": "su", "short_factor": [1.5] * 8, "long_factor": [3.0] * 8}
    spec = of("Phi3ForCausalLM", original_max_position_embeddings=64, rope_scaling=scaling)
    assert spec.max_position == 64  # beyond it other angles would hold
    assert spec.ropes[0].inv_freq[0] == pytest.approx(1 / 1.5)
    assert spec.ropes[0].scale == pytest.approx(math.sqrt(1 + math.log(4) / math.log(64)))


def test_older_files_without_layer_types_have_the_same_windows() -> None:
    def windows(name: str, **fields: Any) -> list[int | None]:
        return [layer.window for layer in of(name, num_hidden_layers=5, sliding_window=8, **fields).layers]

    assert windows("Qwen2ForCausalLM", use_sliding_window=True, max_window_layers=3) == [None] * 3 + [8] * 2
    assert windows("Gemma2ForCausalLM") == [8, None, 8, None, 8]
    assert windows("Olmo3ForCausalLM") == [8, 8, 8, None, 8]
    nope = windows("SmolLM3ForCausalLM", use_sliding_window=True, no_rope_layers=[1, 0, 1, 1, 0])
    assert nope == [None, 8, None, None, 8]


def test_absent_fields_take_the_architecture_s_own_defaults() -> None:
    gemma = of("Gemma2ForCausalLM")
    assert (gemma.head_dim, gemma.activation, gemma.tied) == (256, "gelu_tanh", True)
    assert (gemma.attention_softcap, gemma.logit_softcap, gemma.attention_scale) == (50.0, 30.0, 1 / 16)
    assert of("Gemma2ForCausalLM", attn_logit_softcapping=None).attention_softcap is None
    assert of("MistralForCausalLM").layers[0].window == 4096
    assert of("MistralForCausalLM", sliding_window=None).layers[0].window is None
    assert of("Qwen3ForCausalLM").head_dim == 128
    assert of("LlamaForCausalLM", num_key_value_heads=None).num_kv_heads == 4
    assert of("Qwen2ForCausalLM", sliding_window=4, max_window_layers=0).layers == (Layer(), Layer())
    assert of("SmolLM3ForCausalLM", num_hidden_layers=4).ropes[1] == Rope(dim=0, inv_freq=())


def test_an_unnamed_architecture_is_found_by_its_model_type() -> None:
    assert spec_from_config(SMALL | {"model_type": "qwen3"}).architecture == "Qwen3ForCausalLM"


# --- what cannot be right is refused by name

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["MambaForCausalLM"]}, "unknown architecture 'MambaForCausalLM'; known are LlamaFor"),
    ({"architectures": [7], "model_type": "mamba"}, "unknown architecture 'mamba'"),
    ({"hidden_size": None}, "hidden_size is None; expected an integer from 1 to"),
    ({"hidden_size": 1 << 40}, "hidden_size is 1099511627776"),
    ({"hidden_size": -64}, "hidden_size is -64"),
    ({"hidden_size": 64.0}, "hidden_size is 64.0"),
    ({"hidden_size": True}, "hidden_size is True"),
    ({"hidden_size": "64"}, "hidden_size is '64'"),
    ({"hidden_size": 66}, "num_attention_heads is 4; expected a divisor of hidden_size, 66"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
    ({"num_key_value_heads": 3}, "num_key_value_heads is 3; expected a divisor of num_attention_heads, 4"),
    ({"num_key_value_heads": 8}, "num_key_value_heads is 8"),
    ({"head_dim": 1 << 20}, "head_dim is 1048576"),
    ({"head_dim": 15}, "head_dim"),
    ({"vocab_size": 0}, "vocab_size is 0"),
    ({"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    ({"hidden_act": "relu"}, "hidden_act is 'relu'; expected one of silu"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
    ({"rope_scaling": {"rope_type": "ntk-by-parts", "factor": 2.0}}, "rope_type is 'ntk-by-parts'"),
    ({"rope_scaling": {"rope_type": "linear"}}, "factor is None"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor is 0"),
    ({"rope_scaling": [1]}, r"rope_scaling is \[1\]; expected an object"),
    ({"rope_theta": float("inf")}, "rope_theta is inf"),
    ({"rope_theta": 0.5}, "rope_theta is 0.5"),
    ({"partial_rotary_factor": 2.0}, "partial_rotary_factor is 2.0"),
    (
        {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}},
        "short_factor is .* list of 8 numbers",
    ),
    (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}},
        "high_freq_factor is 1.0; expected more than low_freq_factor, 4.0",
    ),
    ({"architectures": ["Gemma3ForCausalLM"], "layer_types": ["full_attention"]}, "layer_types"),
    ({"architectures": ["Gemma3ForCausalLM"], "layer_types": ["full_attention", "mamba"]}, "layer_types"),
    (
        {"architectures": ["Gemma3ForCausalLM"], "use_bidirectional_attention": True},
        "use_bidirectional_attention",
    ),
    ({"architectures": ["MistralForCausalLM"], "sliding_window": 0}, "sliding_window is 0"),
    ({"architectures": ["GraniteForCausalLM"], "logits_scaling": 0}, "logits_scaling is 0"),
    ({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1]}, "no_rope_layers"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=lambda x: str(x)[:50])
def test_what_cannot_be_right_is_refused_by_name(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(IntaglioError, match=sentence) as caught:
        spec_from_config(LLAMA | change)
    assert len(str(caught.value)) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.integers(-2, 1 << 80) | st.floats() | st.sampled_from([1e-320, 1e300, 1, 2, 3, 64])
ROPE_NUMBERS = (
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "attention_factor",
    "partial_rotary_factor",
    "truncate",
)
ROPE = st.fixed_dictionaries(
    {"rope_type": st.sampled_from(["default", "linear", "llama3", "yarn", "longrope", "dynamic"])},
    optional=dict.fromkeys(ROPE_NUMBERS, NUMBERS | JSON)
    | {"short_factor": st.lists(NUMBERS, min_size=8, max_size=8) | JSON},
)
FIELDS = sorted(
    {*SMALL, "architectures", "model_type", "head_dim", "sliding_window", "layer_types", "rms_norm_eps"}
    | {"query_pre_attn_scalar", "attn_logit_softcapping", "max_window_layers", "use_sliding_window"}
    | {"no_rope_layers", "sliding_window_pattern", "hidden_act", "attention_bias", "rope_theta"}
)


@given(
    name=st.sampled_from(sorted(ARCHITECTURES)),
    hostile=st.dictionaries(st.sampled_from(FIELDS), NUMBERS | JSON, max_size=3),
    scaling=st.none() | ROPE | JSON,
)
@settings(max_examples=300, deadline=None)
def test_a_hostile_config_gives_a_sane_spec_or_a_sentence(name: str, hostile: dict, scaling: Any) -> None:
    config = SMALL | {"architectures": [name], "rope_scaling": scaling} | hostile
    try:
        spec = spec_from_config(config)
        parts = ARCHITECTURES[spec.architecture].sources(spec, config)
    except IntaglioError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "config.json" in refusal
        assert len(refusal) < 500
        return
    assert len(parts) <= 3 + 20 * spec.num_layers
    assert spec.num_heads % spec.num_kv_heads == 0
    assert len(spec.layers) == spec.num_layers
    for turn in spec.ropes:
        assert turn.dim <= spec.head_dim
        assert len(turn.inv_freq) * 2 == turn.dim
        assert all(map(math.isfinite, (*turn.inv_freq, turn.scale)))
    scales = (spec.attention_scale, spec.embed_scale, spec.residual_scale, spec.logit_scale, spec.norm_eps)
    assert all(0 < x < math.inf for x in scales)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ModelSpec) == spec


# --- small things


def test_shapes_of_linears() -> None:
    spec = of("Qwen3ForCausalLM", head_dim=32)
    assert linear_shape(spec, "q") == (128, 64)
    assert linear_shape(spec, "k") == linear_shape(spec, "v") == (64, 64)
    assert linear_shape(spec, "o") == (64, 128)
    assert linear_shape(spec, "down") == (64, 96)


def test_a_table_holds_cosine_and_sine_of_every_position() -> None:
    cos, sin = table(Rope(dim=4, inv_freq=(1.0, 0.25), scale=2.0), 9)
    assert cos.shape == sin.shape == (9, 2)
    assert np.allclose(cos[8], [2 * math.cos(8), 2 * math.cos(2)], atol=1e-6)
    assert np.allclose(sin[8], [2 * math.sin(8), 2 * math.sin(2)], atol=1e-6)


def test_describing_a_model_needs_no_torch() -> None:
    modules = "intaglio.models.transformer, intaglio.models.observe, intaglio.models.transformers_model"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

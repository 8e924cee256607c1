"""Every known architecture as data: from config.json to a ModelSpec, and where each tensor lies.

The names on the left are those of `roles`, those on the right the ones in Hugging Face files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from intaglio.errors import IntaglioError
from intaglio.models import positions, roles
from intaglio.models.fields import Fields
from intaglio.models.positions import FULL, SLIDING
from intaglio.models.spec import ModelSpec


class Part(msgspec.Struct, frozen=True):
    """A canonical tensor as it lies in a file: rows [rows[0], rows[1]) of `name` (None: all), plus `add`."""

    name: str
    rows: tuple[int, int] | None = None
    add: float = 0.0


PRE_NORMS = {"pre_attention_norm": "input_layernorm", "pre_mlp_norm": "post_attention_layernorm"}
POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
}
BOTH_NORMS = POST_NORMS | {
    "pre_attention_norm": "input_layernorm",
    "pre_mlp_norm": "pre_feedforward_layernorm",
}
QK_NORMS = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one architecture; the defaults are Llama's.

    `defaults` stand in for fields absent from a config; `theta` is the rope base where it gives none
    (with an entry for SLIDING, those layers have a rotary embedding of their own);
    `fused` maps a role to the matrix in which it is stacked by rows, in the order written;
    `bias_fields` maps a flag of the config to the roles that it gives a bias;
    `scales` makes the ModelSpec fields only this architecture has.
    """

    model_type: str
    norms: Mapping[str, str] = field(default_factory=lambda: PRE_NORMS)
    norm_offset: float = 0.0  # the gain is the stored weight plus this
    qk_norm: Literal["head", "full"] | None = None
    fused: Mapping[str, str] = field(default_factory=dict)
    biased: tuple[str, ...] = ()  # roles with a bias whatever the config says
    bias_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    activation: str = "hidden_act"
    layer_types: positions.LayerTypes = positions.all_full
    rotated: Callable[[Fields, int], Sequence[bool]] = positions.all_rotated
    theta: Mapping[str, float] = field(default_factory=lambda: {FULL: 10_000.0})
    defaults: Mapping[str, Any] = field(default_factory=dict)
    scales: Callable[[Fields], Mapping[str, Any]] = lambda fields: {}

    def sources(self, spec: ModelSpec, config: Mapping[str, Any]) -> dict[str, Part]:
        """Canonical name with `.weight` or `.bias` -> its part, for every tensor of the model.

        Exact: a model of this config has these tensors and no others. Tied models have no `lm_head`.
        """
        parts = {
            f"{roles.EMBEDDING}.weight": Part("model.embed_tokens.weight"),
            f"{roles.FINAL_NORM}.weight": Part("model.norm.weight", add=self.norm_offset),
        }
        if not spec.tied:
            parts[f"{roles.HEAD}.weight"] = Part("lm_head.weight")
        biased = self._biased(Fields(config, self.defaults))
        for layer in range(spec.num_layers):
            parts |= self._layer_sources(spec, layer, biased)
        return parts

    def _layer_sources(self, spec: ModelSpec, layer: int, biased: set[str]) -> dict[str, Part]:
        prefix = f"model.layers.{layer}."
        parts = {
            f"{roles.site(layer, role)}.weight": Part(f"{prefix}{name}.weight", add=self.norm_offset)
            for role, name in self.norms.items()
        }
        for role, name in roles.LINEARS.items():
            stored, rows = prefix + self.fused.get(role, name), self._rows(spec, role)
            parts[f"{prefix}{name}.weight"] = Part(f"{stored}.weight", rows)
            if role in biased:
                parts[f"{prefix}{name}.bias"] = Part(f"{stored}.bias", rows)
        return parts

    def _rows(self, spec: ModelSpec, role: str) -> tuple[int, int] | None:
        """Where `role` lies in its fused matrix."""
        if role not in self.fused:
            return None
        start = 0
        for other, matrix in self.fused.items():
            if other == role:
                break
            if matrix == self.fused[role]:
                start += linear_shape(spec, other)[0]
        return start, start + linear_shape(spec, role)[0]

    def _biased(self, fields: Fields) -> set[str]:
        flagged = (names for flag, names in self.bias_fields.items() if fields.flag(flag))
        return set(self.biased).union(*flagged)


def linear_shape(spec: ModelSpec, role: str) -> tuple[int, int]:
    """(out, in) of a layer's matrix."""
    queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    hidden, middle = spec.hidden_size, spec.intermediate_size
    return {
        "q": (queries, hidden),
        "k": (keys, hidden),
        "v": (keys, hidden),
        "o": (hidden, queries),
        "gate": (middle, hidden),
        "up": (middle, hidden),
        "down": (hidden, middle),
    }[role]


def _gemma(fields: Fields) -> Mapping[str, Any]:
    if fields.flag("use_bidirectional_attention"):
        raise fields.refuse("use_bidirectional_attention", True, "false: only causal models are known")
    return {
        "embed_scale": fields.size("hidden_size", MOST["hidden_size"]) ** 0.5,
        "attention_scale": fields.number("query_pre_attn_scalar") ** -0.5,
        "logit_softcap": fields.optional_number("final_logit_softcapping"),
    }


def _gemma2(fields: Fields) -> Mapping[str, Any]:
    return {**_gemma(fields), "attention_softcap": fields.optional_number("attn_logit_softcapping")}


def _granite(fields: Fields) -> Mapping[str, Any]:
    return {
        "embed_scale": fields.number("embedding_multiplier"),
        "attention_scale": fields.number("attention_multiplier"),
        "residual_scale": fields.number("residual_multiplier"),
        "logit_scale": 1.0 / fields.number("logits_scaling"),
    }


ATTENTION_BIAS = {"attention_bias": ("q", "k", "v", "o")}
ALL_BIASES = ATTENTION_BIAS | {"mlp_bias": ("gate", "up", "down")}
GEMMA = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
SWITCHED_WINDOW = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

ARCHITECTURES: dict[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama", bias_fields=ALL_BIASES),
    "SmolLM3ForCausalLM": Architecture(
        "smollm3",
        bias_fields=ALL_BIASES,
        layer_types=positions.where_unrotated,
        rotated=positions.rotated,
        theta={FULL: 2_000_000.0},
        defaults={"tie_word_embeddings": True, "num_key_value_heads": 4, "use_sliding_window": False},
    ),
    "MistralForCausalLM": Architecture(
        "mistral",
        layer_types=positions.all_sliding,
        defaults={"sliding_window": 4096, "num_key_value_heads": 8},
    ),
    "Qwen2ForCausalLM": Architecture(
        "qwen2",
        biased=("q", "k", "v"),
        layer_types=positions.after_max_window_layers,
        defaults=SWITCHED_WINDOW,
    ),
    "Qwen3ForCausalLM": Architecture(
        "qwen3",
        norms=PRE_NORMS | QK_NORMS,
        qk_norm="head",
        bias_fields=ATTENTION_BIAS,
        layer_types=positions.after_max_window_layers,
        defaults=SWITCHED_WINDOW | {"head_dim": 128},
    ),
    "Olmo2ForCausalLM": Architecture(
        "olmo2",
        norms=POST_NORMS | QK_NORMS,
        qk_norm="full",
        bias_fields=ATTENTION_BIAS,
        defaults={"rms_norm_eps": 1e-5},
    ),
    "Olmo3ForCausalLM": Architecture(
        "olmo3",
        norms=POST_NORMS | QK_NORMS,
        qk_norm="full",
        bias_fields=ATTENTION_BIAS,
        layer_types=positions.one_full_in(4),
        theta={FULL: 500_000.0, SLIDING: 500_000.0},
        defaults={"rms_norm_eps": 1e-5, "sliding_window": 4096},
    ),
    "Gemma2ForCausalLM": Architecture(
        "gemma2",
        norms=BOTH_NORMS,
        norm_offset=1.0,
        bias_fields=ATTENTION_BIAS,
        activation="hidden_activation",
        layer_types=positions.one_full_in(2),
        defaults=GEMMA | {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
        scales=_gemma2,
    ),
    "Gemma3ForCausalLM": Architecture(
        "gemma3_text",
        norms=BOTH_NORMS | QK_NORMS,
        norm_offset=1.0,
        qk_norm="head",
        bias_fields=ATTENTION_BIAS,
        activation="hidden_activation",
        layer_types=positions.one_full_in(6),
        theta={FULL: 1_000_000.0, SLIDING: 10_000.0},
        defaults=GEMMA,
        scales=_gemma,
    ),
    "Phi3ForCausalLM": Architecture(
        "phi3",
        fused=dict.fromkeys(("q", "k", "v"), "self_attn.qkv_proj")
        | dict.fromkeys(("gate", "up"), "mlp.gate_up_proj"),
        layer_types=positions.all_sliding,
        defaults={"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
    ),
    "GraniteForCausalLM": Architecture(
        "granite",
        bias_fields=ALL_BIASES,
        defaults=dict.fromkeys(
            ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"), 1.0
        ),
        scales=_granite,
    ),
}

# sane upper bounds: what a hostile file could make us allocate
MOST = {
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 19,
    "num_hidden_layers": 1024,
    "num_attention_heads": 1024,
    "max_position_embeddings": 1 << 27,
}
MOST_HEAD_DIM = 1024
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
}
COMMON = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The entry of ARCHITECTURES that `config["architectures"]` names."""
    return ARCHITECTURES[architecture_name(config)]


def architecture_name(config: Mapping[str, Any]) -> str:
    """The class name in `architectures`, or the one of `model_type` where the file lacks it."""
    names = config.get("architectures")
    if isinstance(names, list) and names:
        name = names[0]
    else:
        name = next((n for n, a in ARCHITECTURES.items() if a.model_type == config.get("model_type")), None)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        found = name if isinstance(name, str) else config.get("model_type")
        known = ", ".join(ARCHITECTURES)
        raise IntaglioError(f"config.json: unknown architecture {str(found)[:80]!r}; known are {known}")
    return name


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """A checked ModelSpec; an IntaglioError names the field that cannot be right."""
    name = architecture_name(config)
    known = ARCHITECTURES[name]
    fields = Fields(config, COMMON | dict(known.defaults))
    sizes = {field: fields.size(field, most) for field, most in MOST.items()}
    count, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
    head_dim = _head_dim(fields, sizes["hidden_size"], heads)
    longest = sizes["max_position_embeddings"]
    types, turned = known.layer_types(fields, count), known.rotated(fields, count)
    ropes, layers = positions.layers(fields, types, turned, known.theta, head_dim, longest)
    return ModelSpec(
        architecture=name,
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        num_layers=count,
        num_heads=heads,
        num_kv_heads=_kv_heads(fields, heads),
        head_dim=head_dim,
        intermediate_size=sizes["intermediate_size"],
        norm_eps=fields.number("rms_norm_eps", most=1.0),
        max_position=positions.longest(fields, longest),
        ropes=ropes,
        layers=layers,
        activation=fields.choice(known.activation, ACTIVATIONS),
        pre_norm="pre_attention_norm" in known.norms,
        post_norm="post_attention_norm" in known.norms,
        qk_norm=known.qk_norm,
        tied=fields.flag("tie_word_embeddings"),
        **{"attention_scale": head_dim**-0.5, **known.scales(fields)},
    )


def _head_dim(fields: Fields, hidden: int, heads: int) -> int:
    if fields.get("head_dim") is None and hidden % heads:
        raise fields.refuse("num_attention_heads", heads, f"a divisor of hidden_size, {hidden}")
    return fields.size("head_dim", MOST_HEAD_DIM, default=hidden // heads)


def _kv_heads(fields: Fields, heads: int) -> int:
    if fields.explicit("num_key_value_heads") is None:
        return heads
    count = fields.size("num_key_value_heads", heads)
    if heads % count:
        raise fields.refuse("num_key_value_heads", count, f"a divisor of num_attention_heads, {heads}")
    return count

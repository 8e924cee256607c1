"""Rotary embeddings: from a config's `rope_parameters` to the frequencies of a head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from intaglio.models.fields import Fields
from intaglio.models.spec import Rope
from intaglio.types import Array


def rope(parameters: Mapping[str, Any], head_dim: int, max_position: int) -> Rope:
    """The rotary embedding that `parameters` (rope_type, rope_theta, …) describe for heads of `head_dim`."""
    fields = Fields(
        parameters,
        {"rope_type": parameters.get("type", "default"), "partial_rotary_factor": 1.0},
        where="config.json, rope_parameters",
    )
    share = fields.number("partial_rotary_factor", most=1.0)
    dim = int(head_dim * share)
    if dim < 2 or dim % 2:
        raise fields.refuse(
            "partial_rotary_factor", share, f"an even share of the {head_dim} channels (head_dim)"
        )
    scaled = fields.choice("rope_type", SCALINGS)
    exponent = np.arange(0, dim, 2, dtype=np.float64) / dim
    theta = fields.number("rope_theta")
    if theta < 1:  # frequencies would exceed one turn a token and, soon after, float32
        raise fields.refuse("rope_theta", theta, "a number from 1 up")
    inv_freq, scale = scaled(fields, theta**-exponent, max_position)
    return Rope(dim=dim, inv_freq=tuple(inv_freq.astype(np.float32).tolist()), scale=float(scale))


@lru_cache(maxsize=16)
def table(rope: Rope, count: int) -> tuple[Array, Array]:
    """cos and sin of positions 0..count-1, each (count, dim/2) float32, already times `rope.scale`."""
    position = np.arange(count, dtype=np.float32)[:, None]
    angle = position * np.asarray(rope.inv_freq, np.float32)  # rounded to float32 as models were trained
    return np.cos(angle) * np.float32(rope.scale), np.sin(angle) * np.float32(rope.scale)


def _default(fields: Fields, inv_freq: Array, max_position: int) -> tuple[Array, float]:
    return inv_freq, 1.0


def _linear(fields: Fields, inv_freq: Array, max_position: int) -> tuple[Array, float]:
    return inv_freq / fields.number("factor"), 1.0


def _llama3(fields: Fields, inv_freq: Array, max_position: int) -> tuple[Array, float]:
    """Long waves are stretched by `factor`, short ones kept, those between interpolated."""
    factor = fields.number("factor")
    low, high = fields.number("low_freq_factor"), fields.number("high_freq_factor")
    if high <= low:
        raise fields.refuse("high_freq_factor", high, f"more than low_freq_factor, {low}")
    turns = original_length(fields, max_position) * inv_freq / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return inv_freq * (keep + (1 - keep) / factor), 1.0


def _yarn(fields: Fields, inv_freq: Array, max_position: int) -> tuple[Array, float]:
    """Pairs turning often keep their frequency, slow ones are stretched, a ramp between (2309.00071)."""
    length = original_length(fields, max_position)
    factor = fields.number("factor", max_position / length)
    fast, slow = fields.number("beta_fast", 32.0), fields.number("beta_slow", 1.0)
    dim, theta = 2 * len(inv_freq), fields.number("rope_theta")
    if theta <= 1:
        raise fields.refuse("rope_theta", theta, "more than 1 for yarn")

    def pair(turns: float) -> float:
        return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(fast), pair(slow)
    if fields.get("truncate") is not False:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    span = last - first if last != first else 0.001
    stretch = np.clip((np.arange(dim // 2) - first) / span, 0, 1)
    return inv_freq * (1 - stretch + stretch / factor), _yarn_scale(fields, factor)


def _yarn_scale(fields: Fields, factor: float) -> float:
    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if fields.get("attention_factor") is not None:
        return fields.number("attention_factor")
    if fields.get("mscale") and fields.get("mscale_all_dim"):
        return mscale(fields.number("mscale")) / mscale(fields.number("mscale_all_dim"))
    return mscale(1.0)


def _longrope(fields: Fields, inv_freq: Array, max_position: int) -> tuple[Array, float]:
    """The short factors: right up to the original length, to which the architecture cuts `max_position`."""
    length = original_length(fields, max_position)
    factor = fields.number("factor", max_position / length)
    default = 1.0 if factor <= 1 or length == 1 else math.sqrt(1 + math.log(factor) / math.log(length))
    short = np.asarray(fields.numbers("short_factor", len(inv_freq)))
    return inv_freq / short, fields.number("attention_factor", default)


def original_length(fields: Fields, max_position: int) -> int:
    """Positions the model was first trained on."""
    return fields.size("original_max_position_embeddings", 1 << 30, default=max_position)


# "dynamic" changes nothing up to max_position, and longer contexts are refused
SCALINGS: dict[str, Callable[[Fields, Array, int], tuple[Array, float]]] = {
    "default": _default,
    "dynamic": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,  # what Phi-3 files called it first
}

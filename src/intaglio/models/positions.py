"""How far each layer sees and how it turns: the windows and rotary embeddings a config describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from intaglio.models.fields import Fields
from intaglio.models.rope import original_length, rope
from intaglio.models.spec import Layer, Rope

FULL, SLIDING = "full_attention", "sliding_attention"
NO_ROPE = Rope(dim=0, inv_freq=())  # a layer that knows no positions (SmolLM3)

LayerTypes = Callable[[Fields, int], Sequence[str]]  # (fields, number of layers) -> FULL or SLIDING of each


def all_full(fields: Fields, count: int) -> Sequence[str]:
    """No layer has a window."""
    return [FULL] * count


def all_sliding(fields: Fields, count: int) -> Sequence[str]:
    """Every layer has the window, if the file gives one."""
    return [SLIDING] * count


def after_max_window_layers(fields: Fields, count: int) -> Sequence[str]:
    """Qwen: the first `max_window_layers` layers see everything."""
    first = fields.get("max_window_layers")
    if type(first) is not int or first < 0:
        raise fields.refuse("max_window_layers", first, "an integer from 0 up")
    return _listed(fields, count) or [SLIDING if i >= first else FULL for i in range(count)]


def one_full_in(period: int) -> LayerTypes:
    """The last of every `period` layers sees everything."""

    def types(fields: Fields, count: int) -> Sequence[str]:
        every = fields.size("sliding_window_pattern", 1 << 16, default=period)
        return _listed(fields, count) or [SLIDING if (i + 1) % every else FULL for i in range(count)]

    return types


def where_unrotated(fields: Fields, count: int) -> Sequence[str]:
    """SmolLM3: layers without a rotary embedding have the window."""
    return _listed(fields, count) or [FULL if turned else SLIDING for turned in rotated(fields, count)]


def _listed(fields: Fields, count: int) -> Sequence[str] | None:
    """The file's own `layer_types`, checked."""
    types = fields.get("layer_types")
    if types is None:
        return None
    if not isinstance(types, list) or len(types) != count or any(t not in (FULL, SLIDING) for t in types):
        raise fields.refuse("layer_types", types, f"a list of {count} of {FULL}, {SLIDING}")
    return types


def all_rotated(fields: Fields, count: int) -> Sequence[bool]:
    """Every layer has a rotary embedding."""
    return [True] * count


def rotated(fields: Fields, count: int) -> Sequence[bool]:
    """SmolLM3: `no_rope_layers` has 0 where a layer has none; by default every fourth."""
    listed = fields.get("no_rope_layers")
    if listed is None:
        every = fields.size("no_rope_layer_interval", 1 << 16, default=4)
        return [(i + 1) % every != 0 for i in range(count)]
    if not isinstance(listed, list) or len(listed) < count or any(x not in (0, 1) for x in listed):
        raise fields.refuse("no_rope_layers", listed, f"a list of {count} or more of 0, 1")
    return [bool(x) for x in listed[:count]]


def window(fields: Fields) -> int | None:
    """The sliding window, unless the file has null or, where there is a switch, has it off."""
    if "use_sliding_window" in fields.defaults and not fields.flag("use_sliding_window"):
        return None
    if fields.explicit("sliding_window") is None:
        return None
    return fields.size("sliding_window", 1 << 30)


def layers(
    fields: Fields,
    types: Sequence[str],
    turned: Sequence[bool],
    theta: Mapping[str, float],
    head_dim: int,
    max_position: int,
) -> tuple[tuple[Rope, ...], tuple[Layer, ...]]:
    """The model's distinct rotary embeddings, and each layer's window and choice of them."""
    distance = window(fields)
    by_type = {
        kind: rope(parameters(fields, kind, theta), head_dim, max_position) for kind in sorted(set(types))
    }
    used = [by_type[kind] if turns else NO_ROPE for kind, turns in zip(types, turned, strict=True)]
    ropes = tuple(dict.fromkeys(used))
    chosen = tuple(
        Layer(window=distance if kind == SLIDING else None, rope=ropes.index(own))
        for kind, own in zip(types, used, strict=True)
    )
    return ropes, chosen


def parameters(fields: Fields, kind: str, theta: Mapping[str, float]) -> Mapping[str, Any]:
    """The rope parameters of layers of `kind`, in the newer form (`rope_parameters`, perhaps per kind)
    or the older (`rope_theta`, `rope_scaling`, `rope_local_base_freq`)."""
    own: dict[str, Any] = {"rope_theta": theta.get(kind, theta[FULL])}
    given = fields.mapping("rope_scaling") or fields.mapping("rope_parameters") or {}
    nested = FULL in given or SLIDING in given
    if nested:
        given = Fields(given, {}, "config.json, rope_parameters").mapping(kind) or {}
    if kind == SLIDING and SLIDING in theta:  # what is said of the whole model is not said of these
        local = {"rope_theta": fields.get("rope_local_base_freq")}
        return own | _present(local) | (_present(given) if nested else {})
    outside = {name: fields.get(name) for name in ("rope_theta", "partial_rotary_factor")}
    length = {name: fields.get(name) for name in ("original_max_position_embeddings",)}
    return own | _present(outside) | _present(given) | _present(length)  # Phi-3's own length, outside, counts


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def longest(fields: Fields, max_position: int) -> int:
    """The context the model may be given: longrope turns other angles beyond its original length, where
    the whole prompt would have to be read again, so it ends there."""
    own = parameters(fields, FULL, {FULL: 1.0})
    if own.get("rope_type", own.get("type")) not in ("longrope", "su"):
        return max_position
    return min(max_position, original_length(Fields(own, {}), max_position))

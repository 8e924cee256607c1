"""Result: what was measured of a model. As JSON one flat object, the base's numbers under `against`."""

from __future__ import annotations

from typing import Any

import msgspec


class LayerResult(msgspec.Struct, frozen=True):
    """KL to the original with only this layer compressed, in nats."""

    layer: int
    kl_mean: float
    kl_max: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One model's numbers; None is what was not or could not be measured."""

    model: str
    perplexity: float
    kl_mean: float | None = None  # from the original to this model, nats a token
    kl_max: float | None = None
    top1_agreement: float | None = None
    bits_per_weight: float
    bytes: int  # of the weights as stored
    parameters: int  # of the original
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_rss_bytes: int
    joules_per_token: float | None = None  # of decoding, where the processor tells
    text: str
    text_sha256: str
    windows: int
    seq_len: int
    runtime: str
    dtype: str
    threads: int
    versions: dict[str, str]
    tasks: dict[str, dict[str, float]] | None = None
    per_layer: list[LayerResult] | None = None
    per_layer_windows: int | None = None
    against: Result | None = None

    def record(self) -> dict[str, Any]:
        """Plain data, ready for JSON; a model alone has no `against`, `tasks` and the like."""
        optional = ("tasks", "per_layer", "per_layer_windows", "against")
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {key: value for key, value in found.items() if key not in optional or value is not None}

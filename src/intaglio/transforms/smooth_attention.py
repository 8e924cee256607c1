"""SmoothAttention: the outlier channels of the keys, moved into the queries.   Used by: qserve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from intaglio.attention import Affine, Codec
from intaglio.models import transformer
from intaglio.models.spec import ModelSpec
from intaglio.transforms.capture import capture
from intaglio.transforms.fold import balance, by_head, key, repeat_heads, scaled_rows

if TYPE_CHECKING:
    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor

Loss: TypeAlias = "Callable[[Weights], float]"
Strength = Annotated[float, msgspec.Meta(ge=0, le=1)]


class SmoothAttention(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="smooth_attention",
):
    """s[c] = max|k[c]|^alpha / max|q[c]|^beta, k / s and q * s, so that the scores stay.

    Measured after rope, which mixes channels c and c + dim/2: they share the larger s. Query heads that share
    a K head share s. The factors go into the rows of q and k; where norms follow these, into the norms' gains
    (with a norm per head all heads share one s, as they share the gain).

    `search` > 0 ignores alpha and beta: of (a, 0) and (a, 1 - a), a in `search` steps from 0, the pair is
    taken whose attention output changes least when `codec` rounds the keys, on `tokens` tokens.
    """

    alpha: Strength = 0.5
    beta: Strength = 0.0
    search: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    codec: Codec = Affine(bits=4)
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 2048
    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        return None

    def omits(self, spec: ModelSpec) -> str | None:
        return None

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        return w

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        pairs = self._pairs() if self.search else ((self.alpha, self.beta),)
        scaled = (scale_keys(spec, w, key_scale(spec, index, observation, *pair)) for pair in pairs)
        return min(scaled, key=self._loss(spec, index, w, observation)) if self.search else next(scaled)

    def _loss(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Loss:
        """Squared error of the attention's output with rounded keys, as a function of the weights."""
        n = capture(spec, index, w, observation.batches, self.tokens)["attention_in"]
        want = [transformer.attention(spec, index, w, one) for one in n]

        def loss(scaled: Weights) -> float:
            got = (transformer.attention(spec, index, scaled, one, tap=self._rounding) for one in n)
            return sum(float((a - b).square().sum()) for a, b in zip(got, want, strict=True))

        return loss

    def _pairs(self) -> Iterator[tuple[float, float]]:
        for step in range(self.search):
            alpha = step / self.search
            yield alpha, 0.0
            yield alpha, 1 - alpha

    def _rounding(self, point: str, x: Tensor) -> Tensor:
        return self.codec.roundtrip(x).to(x) if point == "key" else x


def key_scale(spec: ModelSpec, index: int, observation: Observation, alpha: float, beta: float) -> Tensor:
    """The divisor of each key channel, (kv_heads, head_dim)."""
    keys = observation.absmax("key").reshape(spec.num_kv_heads, spec.head_dim)
    queries = by_head(spec, observation.absmax("query")).amax(1)
    if spec.qk_norm == "head":
        keys, queries = (x.amax(0, keepdim=True).expand_as(x) for x in (keys, queries))
    return tie(balance(keys, queries, alpha, beta), spec.ropes[spec.layers[index].rope].dim)


def tie(x: Tensor, dim: int) -> Tensor:
    """The larger of channels c and c + dim/2 for both; those beyond `dim` stay. (..., head_dim)"""
    result = x.clone()
    larger = x[..., : dim // 2].maximum(x[..., dim // 2 : dim])
    result[..., : dim // 2] = result[..., dim // 2 : dim] = larger
    return result


def scale_keys(spec: ModelSpec, w: Weights, by: Tensor) -> Weights:
    """Keys become k / by and queries q * by. `by` (kv_heads, head_dim), tied."""
    keys = by.flatten().to(w[key("k")])
    queries = repeat_heads(spec, keys)
    if spec.qk_norm == "head":
        keys = queries = keys[: spec.head_dim]
    after = "_norm" if spec.qk_norm else ""
    return {**w, **scaled_rows(w, f"k{after}", 1 / keys), **scaled_rows(w, f"q{after}", queries)}

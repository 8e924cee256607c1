"""Rotate: the residual stream in a basis where no channel stands out.   Used by: qserve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.lazy import lazy
from intaglio.models.roles import EMBED_PROJ, EMBEDDING, FINAL_NORM, HEAD, HEAD_PROJ
from intaglio.models.spec import ModelSpec
from intaglio.transforms.fold import absorb_gain, key, present
from intaglio.transforms.hadamard import Kind, orthogonal

if TYPE_CHECKING:
    import torch

    from intaglio.models.observe import Observation
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Rotate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="rotate"
):
    """h -> R h with an orthogonal R: the norms' gains go into their consumers, what reads the residual stream
    becomes W R.T, what writes it R W. A norm without gain commutes with R, scales commute too.

    With `heads`, every head of V is rotated as well (rows of v, columns of o).

    A tied table cannot be both E R.T (read by token) and E diag(gain) R.T (the head). Where others store
    it twice, we leave it as it is and add two (hidden, hidden) matrices: `embed_proj` = R after the lookup,
    `head_proj` = diag(gain) R.T after the final norm. SmolLM2-135M in float16: 2 * 576 * 576 * 2 = 1.3 MB
    instead of a second table of 49152 * 576 * 2 = 56.6 MB.

    It must come before transforms that observe: they see the rotated stream. It makes activations easy to
    round and weights no easier: rounded to nearest they lose more, because the folded gains no longer hold
    down the large channels of the stream. Use it with 8-bit activations and a solver that knows what is read.
    """

    kind: Kind = "hadamard"
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    heads: bool = True
    enabled: bool = True

    def refuses(self, spec: ModelSpec) -> str | None:
        if spec.post_norm:
            return (
                f"rotate: {spec.architecture} normalises what attention and MLP add to the residual stream, "
                "and the gain of such a norm does not commute with a rotation"
            )
        return None

    def omits(self, spec: ModelSpec) -> str | None:
        return None

    def outer(self, spec: ModelSpec, w: Weights) -> Weights:
        """Rotates where the residual stream begins and ends."""
        embedding, norm, head, embed_proj, head_proj = (
            f"{name}.weight" for name in (EMBEDDING, FINAL_NORM, HEAD, EMBED_PROJ, HEAD_PROJ)
        )
        gain = w[norm]
        rotation = self._residual(spec, gain)
        result = {**w, norm: torch.ones_like(gain)}
        if spec.tied:  # composed with those of an earlier rotation, if any
            result[embed_proj] = rotation @ w[embed_proj] if embed_proj in w else rotation
            result[head_proj] = (w[head_proj] * gain if head_proj in w else gain.diag()) @ rotation.T
        else:
            result[embedding] = w[embedding] @ rotation.T
            result[head] = w[head] * gain @ rotation.T
        return result

    def layer(self, spec: ModelSpec, index: int, w: Weights, observation: Observation) -> Weights:
        """Rotates one block. The rotation is the same in all; nothing is observed."""
        result = dict(w)
        for point in ("attention_in", "mlp_in"):
            result = absorb_gain(result, point)
        rotation = self._residual(spec, w[key("o")])
        for role in ("q", "k", "v", "gate", "up"):
            result[key(role)] = result[key(role)] @ rotation.T
        for name in (*present(w, "o"), *present(w, "down")):
            result[name] = rotation @ result[name]
        return self._turn_heads(spec, result) if self.heads else result

    def _turn_heads(self, spec: ModelSpec, w: Weights) -> Weights:
        turn = orthogonal(spec.head_dim, self.kind, self.seed + 1).to(w[key("v")])
        result = dict(w)
        for name in present(w, "v"):
            heads = w[name].reshape(spec.num_kv_heads, spec.head_dim, -1)  # a bias: one column
            result[name] = (turn @ heads).reshape(w[name].shape)
        columns = w[key("o")].reshape(-1, spec.num_heads, spec.head_dim)
        result[key("o")] = (columns @ turn.T).flatten(1)
        return result

    def _residual(self, spec: ModelSpec, like: Tensor) -> Tensor:
        return orthogonal(spec.hidden_size, self.kind, self.seed).to(like)

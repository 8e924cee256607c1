"""Every array a model has, by its name among `roles`, and its shape."""

from __future__ import annotations

from intaglio.models import roles
from intaglio.models.architectures import linear_shape
from intaglio.models.spec import ModelSpec


def linears(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """Name -> (out, in) of every matrix that must be there; a tied model has no head of its own."""
    table = (spec.vocab_size, spec.hidden_size)
    shapes = {roles.EMBEDDING: table}
    for layer in range(spec.num_layers):
        shapes |= {roles.site(layer, role): linear_shape(spec, role) for role in roles.LINEARS}
    return shapes if spec.tied else shapes | {roles.HEAD: table}


def optional_linears(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """Those that a rotation may add."""
    square = (spec.hidden_size, spec.hidden_size)
    return {roles.EMBED_PROJ: square, roles.HEAD_PROJ: square}


def vectors(spec: ModelSpec) -> dict[str, tuple[int]]:
    """Name -> (n,) of every norm's gain."""
    shapes = {roles.FINAL_NORM: (spec.hidden_size,)}
    for layer in range(spec.num_layers):
        shapes |= {roles.site(layer, role): (size,) for role, size in _norms(spec).items()}
    return shapes


def _norms(spec: ModelSpec) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if spec.pre_norm:
        sizes |= dict.fromkeys(("pre_attention_norm", "pre_mlp_norm"), spec.hidden_size)
    if spec.post_norm:
        sizes |= dict.fromkeys(("post_attention_norm", "post_mlp_norm"), spec.hidden_size)
    if spec.qk_norm == "head":
        sizes |= dict.fromkeys(("q_norm", "k_norm"), spec.head_dim)
    if spec.qk_norm == "full":
        sizes |= {"q_norm": linear_shape(spec, "q")[0], "k_norm": linear_shape(spec, "k")[0]}
    return sizes

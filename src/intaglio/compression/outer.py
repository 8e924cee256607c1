"""What lies outside the layers: embedding, final norm, head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.compression.blocks import Block, Coding, solve, untouched
from intaglio.formats import Floating
from intaglio.formats.arrays import to_numpy
from intaglio.models import transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import Rule
from intaglio.terms import Coded, Dense, Metric

if TYPE_CHECKING:
    from intaglio.models.transformer import Weights

ADDED = Rule(terms=(Dense(Floating("float16")),))  # of the small matrices that a rotation adds


def transformed(coding: Coding, w: Weights) -> Weights:
    """After every transform, in order."""
    for transform in coding.transforms:
        w = transform.outer(coding.spec, w)
    return w


def code(coding: Coding, checkpoint: Checkpoint) -> Block:
    """What a rule codes or a transform changed; matrices under the identity metric."""
    before = transformer.outer_weights(checkpoint)
    w = transformed(coding, before)
    changed = [
        key.removesuffix(".weight") for key in w if key.endswith(".weight") and w[key] is not before.get(key)
    ]
    names = dict.fromkeys([*(name for name in coding.rules if f"{name}.weight" in w), *changed])
    linears = {name: _coded(coding, checkpoint, w, name) for name in names if w[f"{name}.weight"].ndim == 2}
    vectors = {name: to_numpy(w[f"{name}.weight"]) for name in names if name not in linears}
    return Block(linears, vectors)


def _coded(coding: Coding, checkpoint: Checkpoint, w: Weights, name: str) -> Coded:
    rule = coding.rules.get(name)
    if rule is None:
        rule = untouched(checkpoint.linears[name]) if name in checkpoint.linears else ADDED
    return solve(rule, w, name, Metric(), name)

"""What lies outside the layers: embedding, final norm, head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from intaglio.compression.blocks import Block, Coding, task, untouched
from intaglio.compression.workers import solve
from intaglio.formats import Floating
from intaglio.formats.arrays import to_numpy
from intaglio.models import transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Hessian
from intaglio.recipe import Rule
from intaglio.terms import Coded, Dense, Metric

if TYPE_CHECKING:
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor

ADDED = Rule(terms=(Dense(Floating("float16")),))  # of the small matrices that a rotation adds


def transformed(coding: Coding, w: Weights) -> Weights:
    """After every transform, in order."""
    for transform in coding.transforms:
        w = transform.outer(coding.spec, w)
    return w


def code(coding: Coding, checkpoint: Checkpoint, hidden: Sequence[Tensor] = ()) -> Block:
    """What a rule codes, a transform changed, or is stored narrower.

    Matrices are coded under the identity metric, the head's under that of its inputs if its rule asks for it
    and `hidden`, what the last block puts out, says what they are.
    """
    before = transformer.outer_weights(checkpoint)
    w = transformed(coding, before)
    names = [key.removesuffix(".weight") for key in w if key.endswith(".weight")]
    changed = {name for name in names if w[f"{name}.weight"] is not before.get(f"{name}.weight")}
    matrices = {name: _rule(coding, checkpoint, name) for name in names if w[f"{name}.weight"].ndim == 2}
    metrics = {coding.head: _head_inputs(coding, w, hidden)} if coding.observes_head and hidden else {}
    linears = {
        name: solve(task(rule, w, name, metrics.get(name, Metric()), name))
        for name, rule in matrices.items()
        if name in changed or name in coding.rules or _narrows(rule, checkpoint.linears[name])
    }
    return Block(linears, {name: to_numpy(w[f"{name}.weight"]) for name in sorted(changed - matrices.keys())})


def _head_inputs(coding: Coding, w: Weights, hidden: Sequence[Tensor]) -> Metric:
    hessian = Hessian()
    for batch in hidden:
        hessian.add(transformer.head_input(coding.spec, w, batch).flatten(0, 1))
    return Metric(hessian.symmetric)


def _narrows(rule: Rule, source: Coded) -> bool:
    """Whether plain numbers become narrower ones; a file's own codes, as in GGUF, stay as they are."""
    return rule.terms != source.terms and source.is_plain


def _rule(coding: Coding, checkpoint: Checkpoint, name: str) -> Rule:
    if rule := coding.rules.get(name):
        return rule
    return untouched(coding, checkpoint.linears[name]) if name in checkpoint.linears else ADDED

"""Kernel times: what a group of coded matrices takes for one token, and what a token takes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import numpy as np

from intaglio import _native
from intaglio.engine.matrices import Packed, pack
from intaglio.evaluation.runtime import Native
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded

REPEATS = 15
PROMPT, ANSWER = 16, 16  # tokens of the run that shows the rest


def seconds(coded: Mapping[str, Coded]) -> float:
    """Processor seconds of one token through matrices of one input, by the kernels that will run them."""
    isa = _native.isas()[0]
    return sum(_of(packed) for packed in pack(coded, tuple(coded), isa, 1))


def rest(checkpoint: Checkpoint, threads: int) -> float:
    """Wall seconds of a decoded token that no matrix of a layer takes: attention, norms, the vocabulary."""
    context = PROMPT + ANSWER + 1
    run = Native(checkpoint, threads, context).time([1] * PROMPT, ANSWER)
    inside = sum(
        seconds({role: checkpoint.linears[roles.site(layer, role)] for role in members})
        for layer in range(checkpoint.spec.num_layers)
        for members in roles.INPUTS.values()
    )
    return max(median(run.decode) - inside / threads, 0.0)


def _of(packed: Packed) -> float:
    """Of all factors, one after another."""
    matrix = packed.matrix
    x = np.random.default_rng(0).standard_normal((1, matrix.cols), dtype=np.float32)
    inner = 0.0 if packed.inner is None else _of(packed.inner)
    return median(matrix.seconds(x, REPEATS)) + inner

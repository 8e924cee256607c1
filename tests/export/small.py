"""Tiny models, coded, for exports."""

from __future__ import annotations

import dataclasses

import numpy as np

from intaglio.engine.executor import Executor
from intaglio.formats import Activation, Format, Integer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.transformer import layer_weights
from intaglio.solvers import Greedy
from intaglio.terms import Coded, Dense, Metric, Term
from intaglio.types import Array
from tests.models.tiny import tiny_checkpoint

IDS = np.arange(40) % 131
W4 = Integer(bits=4, group_size=32)
LAYERS = 2 * 7  # matrices


def coded(
    form: Format | Term = W4,
    case: str = "llama",
    *,
    down: Format | None = None,
    activation: Activation | None = None,
) -> Checkpoint:
    """The tiny model, the matrices of its layers in `form`, those called down in another."""
    checkpoint = tiny_checkpoint(case)
    made: dict[str, Coded] = {}
    for layer in range(checkpoint.spec.num_layers):
        for name, w in layer_weights(checkpoint, layer).items():
            site = f"model.layers.{layer}.{name.removesuffix('.weight')}"
            if name.endswith(".weight") and site in checkpoint.linears:
                own = down if down and "down" in site else form
                term = own if isinstance(own, Term) else Dense(own)
                one = Greedy().solve(w, (term,), Metric(), activation=activation)
                made[site] = dataclasses.replace(one, bias=checkpoint.linears[site].bias)
    return checkpoint.replace(made)


def logits(checkpoint: Checkpoint) -> Array:
    return Executor(checkpoint, threads=1, kv="fp32", max_sequences=1).logits(IDS)

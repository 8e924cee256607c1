"""Checkpoints whose matrices of one input share a dictionary."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.compression import share
from intaglio.compression.workers import Here, Task
from intaglio.formats import Activation
from intaglio.formats.arrays import to_torch
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import Rule
from intaglio.solvers import Ksvd
from intaglio.terms import Coded, Dictionary, Metric, decode


def coded(
    checkpoint: Checkpoint,
    term: Dictionary,
    *,
    activation: Activation | None = None,
    members: Sequence[str] = tuple(roles.LINEARS),
    shared: bool = True,
) -> dict[str, Coded]:
    """The linears of these roles in every layer, by full names."""
    rule = Rule(terms=(term,), solver=Ksvd(sweeps=1), activation=activation, share=shared)
    tasks = []
    for layer in range(checkpoint.spec.num_layers):
        for readers in roles.INPUTS.values():
            names = [roles.site(layer, role) for role in readers if role in members]
            tasks.append([task(checkpoint.linears[name], rule, name) for name in names])
    return share.solve(tasks, Here())


def task(source: Coded, rule: Rule, name: str, metric: Metric | None = None) -> Task:
    bias = None if source.bias is None else to_torch(source.bias)
    return Task(rule, decode(source), bias, metric or Metric(), name)

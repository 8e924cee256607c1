"""One block: read, transformed, its matrices coded, its outputs handed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from intaglio.attention import Codec
from intaglio.compression import share
from intaglio.compression.workers import Task, Workers
from intaglio.formats import Floating
from intaglio.formats.arrays import to_numpy
from intaglio.models import roles, transformer
from intaglio.models.observe import Observation
from intaglio.models.reference import by_point, rounding
from intaglio.models.spec import ModelSpec
from intaglio.recipe import Rule
from intaglio.terms import Coded, Dense, Metric, decode
from intaglio.transforms import Transform
from intaglio.types import Array

if TYPE_CHECKING:
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor


@dataclass(frozen=True)
class Coding:
    """What is done to a model."""

    spec: ModelSpec
    transforms: tuple[Transform, ...]  # those that are carried out
    rules: Mapping[str, Rule]  # by the full name of a matrix
    cache: Codec | None
    quantized: bool  # whether a block reads what the coded blocks before it put out
    rest: Floating | None  # what float32 matrices without a rule are stored in

    @property
    def observes(self) -> bool:
        """Whether anything depends on what blocks read of the calibration text."""
        return bool(self.transforms) or any(needs_metric(rule) for rule in self.rules.values())

    @property
    def head(self) -> str:
        """The matrix that makes scores of hidden states, which may be the embedding."""
        return roles.EMBEDDING if self.spec.tied else roles.HEAD

    @property
    def observes_head(self) -> bool:
        """Whether the head's codes depend on what it reads."""
        return self.head in self.rules and needs_metric(self.rules[self.head])

    @property
    def weighed(self) -> frozenset[str]:
        """The matrices in layers whose errors are weighed by the Fisher information of the loss."""
        inside = (name for name in self.rules if name.startswith("model.layers."))
        return frozenset(name for name in inside if self.rules[name].metric == "fisher")


@dataclass(frozen=True)
class Block:
    """What is stored of a finished block, by full names."""

    linears: Mapping[str, Coded]
    vectors: Mapping[str, Array]


def needs_metric(rule: Rule) -> bool:
    """Whether the rule's codes depend on what the matrix reads."""
    if rule.order:
        return True
    return rule.metric == "activations" and rule.solver.reads_inputs(rule.terms, rule.clip)


def transformed(coding: Coding, layer: int, w: Weights, batches: Sequence[Tensor]) -> Weights:
    """The block after every transform, in order; each observes what those before it made."""
    for transform in coding.transforms:
        observation = Observation(coding.spec, layer, w, batches)
        w = transform.layer(coding.spec, layer, w, observation)
    return w


def code(
    coding: Coding,
    layer: int,
    w: Weights,
    batches: Sequence[Tensor],
    sources: Mapping[str, Coded],
    crew: Workers,
    fisher: Mapping[str, Tensor] = MappingProxyType({}),
) -> Block:
    """Every matrix by its rule, under the metric it asks for; one without a rule keeps its format.

    `fisher`: the Fisher information of the matrices that ask for it, by full names.
    """
    names = {role: roles.site(layer, role) for role in roles.LINEARS}
    rules = {role: coding.rules.get(name) or untouched(coding, sources[name]) for role, name in names.items()}
    needed = [p for p, members in roles.INPUTS.items() if any(needs_metric(rules[role]) for role in members)]
    observation = Observation(coding.spec, layer, w, batches)
    tasks = []
    for point, members in roles.INPUTS.items():
        reads = Metric(observation.hessian(point) if point in needed else None)
        metrics = {role: metric_of(rules[role], reads, fisher.get(names[role])) for role in members}
        tasks.append([task(rules[r], w, roles.LINEARS[r], metrics[r], names[r]) for r in members])
    return Block(share.solve(tasks, crew), norms(layer, w))


def metric_of(rule: Rule, reads: Metric, elements: Tensor | None) -> Metric:
    """What says which errors cost, as the rule asks: the inputs, Fisher information (out, in), or nothing."""
    return {"activations": reads, "fisher": Metric(elements=elements), "identity": Metric()}[rule.metric]


def errors(block: Block) -> str:
    """The errors of the block's outputs in a few words."""
    noted = {name.rpartition(".")[2]: coded.notes["error"] for name, coded in block.linears.items()}
    worst = max(noted, key=lambda name: noted[name])
    said = f"error {sum(noted.values()) / len(noted):.2%} on average, {noted[worst]:.2%} of {worst}"
    trained = [coded.notes for coded in block.linears.values() if "block_error" in coded.notes]
    if not trained:
        return said
    before, after = trained[0]["block_error_before"], trained[0]["block_error"]
    return f"{said}, trained from {before:.2%} to {after:.2%} of the block"


def norms(layer: int, w: Weights) -> dict[str, Array]:
    """The gains of the block's norms, by full names."""
    present = {role: w.get(f"{inside}.weight") for role, inside in roles.NORMS.items()}
    return {roles.site(layer, role): to_numpy(gain) for role, gain in present.items() if gain is not None}


def task(rule: Rule, w: Weights, key: str, metric: Metric, name: str) -> Task:
    """One matrix to be coded by its rule."""
    return Task(rule, w[f"{key}.weight"], w.get(f"{key}.bias"), metric, name)


def untouched(coding: Coding, source: Coded) -> Rule:
    """The rule of a matrix that no rule matches: the plain numbers it came in, or narrower ones."""
    wide = Dense(Floating("float32"))
    terms = source.terms if source.is_plain else (wide,)
    return Rule(terms=(Dense(coding.rest),) if terms == (wide,) and coding.rest else terms)


def advanced(
    coding: Coding, layer: int, w: Weights, block: Block, batches: Sequence[Tensor]
) -> Iterator[Tensor]:
    """What the next block reads: what this one puts out, as it will be run or as it was."""
    tap = None
    if coding.quantized:
        inside = {name.removeprefix(f"model.layers.{layer}."): one for name, one in block.linears.items()}
        w = {**w, **{f"{name}.weight": decode(one) for name, one in inside.items()}}
        readings = {role: inside[name].reading for role, name in roles.LINEARS.items()}
        tap = rounding(by_point(readings), coding.cache)
    return (transformer.block(coding.spec, layer, w, batch, tap=tap) for batch in batches)

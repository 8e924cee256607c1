"""Measurements: what every candidate costs and loses in every group, all else being the original.

A group is what runs as one matrix: the linears of a layer that share an input. The loss is the mean KL from
the original's predictions, in nats a token, with only that group coded. Losses of several groups add up to
first order, for each is a quadratic form of its own small change.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from intaglio.compression import blocks, fisher, share
from intaglio.compression.workers import Here
from intaglio.engine import score
from intaglio.evaluation.measure import Progress
from intaglio.lazy import lazy
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.durable import new_file
from intaglio.models.observe import Observation
from intaglio.models.reference import by_point, rounding
from intaglio.models.transformer import Weights, block, embed, head, layer_weights, outer_weights
from intaglio.recipe import Rule
from intaglio.search.candidates import Candidate
from intaglio.search.seconds import seconds
from intaglio.terms import Coded, Metric, Reading, decode
from intaglio.types import Array

if TYPE_CHECKING:
    import torch

    from intaglio.compression.workers import Task
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

BATCH = 4096  # tokens that go through a block together, about


class Cell(msgspec.Struct, frozen=True):
    """One candidate in one group: KL in nats a token, stored bytes, processor seconds for one token."""

    loss: float
    nbytes: int
    seconds: float


Layer = dict[str, dict[str, Cell]]  # point of roles.INPUTS -> candidate


@dataclass(frozen=True)
class Measurement:
    """`observed` (windows, tokens) guide the solvers, `scored` the losses: int64. A file a finished layer."""

    checkpoint: Checkpoint
    candidates: Sequence[Candidate]
    observed: Array
    scored: Array
    directory: Path
    progress: Progress

    def layers(self) -> list[Layer]:
        """Every layer, measured unless it was before."""
        spec = self.checkpoint.spec
        kept = [self._kept(layer) for layer in range(spec.num_layers)]
        if all(kept):
            return [layer for layer in kept if layer is not None]
        self._weigh()
        found: list[Layer] = []
        observed, scored = self._embedded(self.observed, BATCH), self._embedded(self.scored)
        for layer in range(spec.num_layers):
            found.append(kept[layer] or self._keep(layer, self._layer(layer, observed, scored)))
            observed = [block(spec, layer, self._weights[layer], x) for x in observed]
            scored = [block(spec, layer, self._weights[layer], x) for x in scored]
            self.progress("measuring layers", layer + 1, spec.num_layers)
        shutil.rmtree(self._fisher, ignore_errors=True)
        return found

    def finished(self) -> int:
        """How many layers are kept."""
        return sum(self._path(layer).exists() for layer in range(self.checkpoint.spec.num_layers))

    def _weigh(self) -> None:
        """What errors of each weight cost, where a candidate asks for it."""
        if any(candidate.rule.metric == "fisher" for candidate in self.candidates):
            self.progress("the way back through the model, for its Fisher information", 0, 0)
            layers = range(self.checkpoint.spec.num_layers)
            wanted = frozenset(roles.site(layer, role) for layer in layers for role in roles.LINEARS)
            fisher.measure(self.checkpoint, self.observed, wanted, self._fisher)

    def _layer(self, layer: int, observed: Sequence[Tensor], scored: Sequence[Tensor]) -> Layer:
        w = self._weights[layer]
        observation = Observation(self.checkpoint.spec, layer, w, observed)
        needed = any(blocks.needs_metric(candidate.rule) for candidate in self.candidates)
        elements = fisher.read(self._fisher, layer)
        found: Layer = {}
        for point in roles.INPUTS:
            inputs = observation.hessian(point) if needed else None
            source = Source(layer, w, inputs, elements)
            coded = {one.name: _coded(one, point, source) for one in self.candidates}
            found[point] = {
                name: Cell(
                    loss=self._loss(layer, scored, _with(w, matrices)),
                    nbytes=sum(matrix.nbytes for matrix in matrices.values()),
                    seconds=seconds(matrices),
                )
                for name, matrices in coded.items()
            }
        return found

    def _loss(self, layer: int, scored: Sequence[Tensor], changed: Changed) -> float:
        """KL with this layer changed, window by window, so that the logits of one at a time are held."""
        spec, divergence = self.checkpoint.spec, []
        for x, original in zip(scored, self._original, strict=True):
            h = block(spec, layer, changed.weights, x, tap=changed.tap)
            for index in range(layer + 1, spec.num_layers):
                h = block(spec, index, self._weights[index], h)
            divergence.append(score.kl(original, head(spec, self._outer, h)[0, :-1].numpy()))
        return float(np.concatenate(divergence).mean())

    def _embedded(self, tokens: Array, batch: int = 1) -> list[Tensor]:
        """In batches of about so many tokens, at least one window."""
        size = max(1, batch // tokens.shape[1])
        parts = (tokens[start : start + size] for start in range(0, len(tokens), size))
        return [embed(self.checkpoint.spec, self._outer, torch.from_numpy(part)) for part in parts]

    @cached_property
    def _weights(self) -> list[Weights]:
        """All layers, decoded: the search holds the model in float32."""
        return [layer_weights(self.checkpoint, i) for i in range(self.checkpoint.spec.num_layers)]

    @cached_property
    def _outer(self) -> Weights:
        return outer_weights(self.checkpoint)

    @cached_property
    def _original(self) -> list[Array]:
        """The original's logits of each scored window, but the last token's."""
        found = []
        for x in self._embedded(self.scored):
            for index, w in enumerate(self._weights):
                x = block(self.checkpoint.spec, index, w, x)
            found.append(head(self.checkpoint.spec, self._outer, x)[0, :-1].numpy())
        return found

    @property
    def _fisher(self) -> Path:
        """The Fisher information of all layers, until the last is measured."""
        return self.directory / "fisher"

    def _path(self, layer: int) -> Path:
        return self.directory / f"layer-{layer:05d}.json"

    def _kept(self, layer: int) -> Layer | None:
        try:
            return msgspec.json.decode(self._path(layer).read_bytes(), type=Layer)
        except (OSError, msgspec.MsgspecError):
            return None

    def _keep(self, layer: int, found: Layer) -> Layer:
        self.directory.mkdir(parents=True, exist_ok=True)
        with new_file(self._path(layer)) as file:
            file.write_bytes(msgspec.json.encode(found))
        return found


@dataclass(frozen=True)
class Changed:
    """A layer with some of its matrices coded: its weights, and a tap that rounds what those read."""

    weights: Weights
    tap: Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """A layer as it came, and what says which errors cost at one point.

    `inputs`: mean of x xᵀ (in, in); `elements`: Fisher information of matrices (out, in), by full names.
    """

    layer: int
    weights: Weights
    inputs: Tensor | None
    elements: Mapping[str, Tensor]

    def task(self, rule: Rule, role: str) -> Task:
        """One matrix to be coded by the rule, under the metric it asks for."""
        name = roles.site(self.layer, role)
        metric = blocks.metric_of(rule, Metric(self.inputs), self.elements.get(name))
        return blocks.task(rule, self.weights, roles.LINEARS[role], metric, name)


def _coded(one: Candidate, point: str, source: Source) -> dict[str, Coded]:
    """Role -> matrix, of the linears that read at `point`."""
    members = roles.INPUTS[point]
    found = share.solve([[source.task(one.rule, role) for role in members]], Here())
    return {role: found[roles.site(source.layer, role)] for role in members}


def _with(w: Weights, coded: Mapping[str, Coded]) -> Changed:
    weights = {f"{roles.LINEARS[role]}.weight": decode(matrix) for role, matrix in coded.items()}
    readings = {role: coded[role].reading if role in coded else Reading() for role in roles.LINEARS}
    return Changed({**w, **weights}, rounding(by_point(readings)))

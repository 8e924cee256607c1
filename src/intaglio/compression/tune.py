"""Training within a run: a block's matrices after they are coded, and the scales of all blocks at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from intaglio.compression import outer
from intaglio.compression.activations import Activations
from intaglio.compression.blocks import Block
from intaglio.compression.journal import Journal
from intaglio.compression.plan import Plan
from intaglio.compression.stored import read_block, write_block
from intaglio.formats.arrays import to_torch
from intaglio.models import transformer
from intaglio.models.durable import new_directory
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded, decode
from intaglio.train import Tune
from intaglio.train.scales import Teacher

if TYPE_CHECKING:
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor


def block(
    settings: Tune,
    spec: ModelSpec,
    layer: int,
    w: Weights,
    coded: Block,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
) -> Block:
    """The block after the first stage; w are its weights before they were coded."""
    if not settings.blocks.enabled:
        return coded
    trained = settings.blocks.run(spec, layer, w, _inside(layer, coded.linears), inputs, targets)
    return _outside(layer, trained, coded)


def whole(
    settings: Tune,
    plan: Plan,
    journal: Journal,
    tokens: Sequence[Tensor],
    hidden: Sequence[Tensor],
    say: Callable[[int, int, float], None],
) -> None:
    """Every block after the second stage, stored beside those before it."""
    coding, count = plan.coding, plan.coding.spec.num_layers
    before = outer.transformed(coding, transformer.outer_weights(plan.checkpoint))
    after = {
        **before,
        **_decoded(outer.code(coding, plan.checkpoint, Activations(journal.activations(count)))),
    }

    def read(layer: int) -> tuple[Weights, Mapping[str, Coded]]:
        one = read_block(journal.block(layer))
        return _plain(layer, one), _inside(layer, one.linears)

    trained = settings.scales.run(coding.spec, after, read, Teacher(tokens, hidden, before), say)
    with new_directory(journal.tuned) as directory:
        for layer, linears in enumerate(trained):
            path = journal.block(layer)
            write_block(directory / path.name, _outside(layer, linears, read_block(path)))


def _decoded(coded: Block) -> Weights:
    return {f"{name}.weight": decode(one) for name, one in coded.linears.items()}


def _inside(layer: int, linears: Mapping[str, Coded]) -> dict[str, Coded]:
    """Matrices by their names in the layer."""
    return {name.removeprefix(f"model.layers.{layer}."): coded for name, coded in linears.items()}


def _outside(layer: int, linears: Mapping[str, Coded], before: Block) -> Block:
    return Block({f"model.layers.{layer}.{name}": one for name, one in linears.items()}, before.vectors)


def _plain(layer: int, one: Block) -> Weights:
    """Norms and biases, by names in the layer."""
    prefix = f"model.layers.{layer}."
    norms = {f"{name.removeprefix(prefix)}.weight": to_torch(gain) for name, gain in one.vectors.items()}
    biased = ((name, coded.bias) for name, coded in _inside(layer, one.linears).items())
    return norms | {f"{name}.bias": to_torch(bias) for name, bias in biased if bias is not None}

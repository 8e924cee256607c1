"""Stage 2: the scales of the whole model, trained end to end; codes and what is kept stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from intaglio.lazy import lazy
from intaglio.models import transformer
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded, decode
from intaglio.train.blocks import Rate
from intaglio.train.grouped import grouped
from intaglio.train.schedule import Descent, count, windows

if TYPE_CHECKING:
    import torch
    from torch.nn import functional

    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")
    functional = lazy("torch.nn.functional", extra="compress")

# the number of a layer -> its norms and biases, its coded matrices by names in it
Read: TypeAlias = "Callable[[int], tuple[Weights, Mapping[str, Coded]]]"


class Teacher(NamedTuple):
    """What the original model read and made of it: tokens (windows, t) in batches, its last hidden states
    (windows, t, hidden) in the same, and the weights of its head.
    """

    tokens: Sequence[Tensor]
    hidden: Sequence[Tensor]
    outer: Weights


class ScaleTuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Minimises the divergence of the predictions from the original's (`kl`), or the loss of the next token.

    A layer's inputs are kept for the way back and the rest of it read and computed again: memory holds the
    scales, one decoded layer, and the logits of `batch` windows.
    """

    enabled: bool = True
    epochs: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    rate: Rate = 1e-4
    loss: Literal["kl", "next_token"] = "kl"

    def run(
        self,
        spec: ModelSpec,
        outer: Weights,
        read: Read,
        teacher: Teacher,
        say: Callable[[int, int, float], None],
    ) -> Iterator[dict[str, Coded]]:
        """The matrices of one layer after another, by names in the layer, after training.

        `read` is called whenever a layer is computed. `say` is told steps done, their number, and the loss.
        """
        with torch.enable_grad():
            students = [_Layer(spec, index, read) for index in range(spec.num_layers)]
            if scales := [scale for one in students for scale in one.scales.values()]:
                steps = count(teacher.tokens, self.batch, self.epochs)
                descent = Descent([(scales, self.rate)], steps)
                drawn = windows(teacher.tokens, teacher.hidden, self.batch, self.epochs)
                for step, (tokens, hidden) in enumerate(drawn, 1):
                    logits = _logits(spec, outer, students, tokens)
                    say(step, steps, descent.step(self._loss(spec, logits, tokens, hidden, teacher.outer)))
        return (one.coded() for one in students)

    def _loss(
        self, spec: ModelSpec, logits: Tensor, tokens: Tensor, hidden: Tensor, outer: Weights
    ) -> Tensor:
        if self.loss == "next_token":
            return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        with torch.no_grad():
            expected = transformer.head(spec, outer, hidden).log_softmax(-1)
        found = logits.log_softmax(-1)
        return functional.kl_div(
            found.flatten(0, 1), expected.flatten(0, 1), reduction="batchmean", log_target=True
        )


class _Layer:
    """One layer: its scales, and where the rest is read when it is computed."""

    def __init__(self, spec: ModelSpec, index: int, read: Read) -> None:
        self._spec, self._index, self._read = spec, index, read
        _, coded = read(index)
        self.scales = {name: found.scale.clone() for name, one in coded.items() if (found := grouped(one))}

    def __call__(self, x: Tensor) -> Tensor:
        w, coded = self._read(self._index)
        decoded = {f"{name}.weight": self._decoded(name, one) for name, one in coded.items()}
        return transformer.block(self._spec, self._index, {**w, **decoded}, x)

    def coded(self) -> dict[str, Coded]:
        _, coded = self._read(self._index)
        return {name: self._rescaled(name, one) for name, one in coded.items()}

    def _decoded(self, name: str, coded: Coded) -> Tensor:
        found = grouped(coded)
        return found.decode(self.scales[name]) if found else decode(coded)

    def _rescaled(self, name: str, coded: Coded) -> Coded:
        found = grouped(coded)
        return found.rescaled(self.scales[name].detach(), {}) if found else coded


def _logits(spec: ModelSpec, outer: Weights, layers: Sequence[_Layer], tokens: Tensor) -> Tensor:
    from torch.utils.checkpoint import checkpoint

    x = transformer.embed(spec, outer, tokens)
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=False)
    return transformer.head(spec, outer, x)

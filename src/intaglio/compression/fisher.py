"""The Fisher information of the matrices whose rules ask for it, on disk, one file a layer.

Memory holds one block's weights, their gradients and squares, and one sequence. The disk holds what every
block reads, (layers + 1) * samples * seq_len * hidden float32, until the way back has passed, and a float32
for each weight that was asked for until the run is over.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from intaglio.compression import activations
from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.lazy import lazy
from intaglio.models import safetensors_writer, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.durable import new_directory
from intaglio.models.fisher import of_the_loss, through_block
from intaglio.models.safetensors import Safetensors
from intaglio.models.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from intaglio.models.transformer import Weights
    from intaglio.types import Array, Tensor
else:
    torch = lazy("torch", extra="compress")


def measure(checkpoint: Checkpoint, tokens: Array, wanted: frozenset[str], directory: Path) -> None:
    """Of the `wanted` matrices (full names) on windows (samples, seq_len); `directory` appears when whole."""
    if directory.exists():
        return
    spec, sequences = checkpoint.spec, torch.from_numpy(tokens)
    with new_directory(directory) as work:
        *inputs, last = _forward(checkpoint, sequences, work)
        outer = transformer.outer_weights(checkpoint)
        ends = (of_the_loss(spec, outer, h, one) for h, one in zip(last, sequences, strict=True))
        behind = activations.store(work / f"gradients-{spec.num_layers}", ends)
        for layer in reversed(range(spec.num_layers)):
            back = _Back(spec, layer, transformer.layer_weights(checkpoint, layer), _inside(wanted, layer))
            behind = activations.store(work / f"gradients-{layer}", back.run(inputs[layer], behind))
            arrays = {name: to_numpy(total / len(sequences)) for name, total in back.squares.items()}
            if arrays:
                safetensors_writer.write(_file(work, layer), arrays)
            _forget(work, layer + 1)
        _forget(work, 0)


def read(directory: Path, layer: int) -> Mapping[str, Tensor]:
    """The Fisher information (out, in) of a layer's matrices, by their full names."""
    path = _file(directory, layer)
    if not path.exists():
        return {}
    file, prefix = Safetensors.open(path), f"model.layers.{layer}."
    return {prefix + key.removesuffix(".weight"): to_torch(file[key]) for key in file}


def _forward(checkpoint: Checkpoint, sequences: Tensor, work: Path) -> list[Sequence[Tensor]]:
    """What each block reads of each sequence, and what the last puts out."""
    spec, outer = checkpoint.spec, transformer.outer_weights(checkpoint)
    embedded = (transformer.embed(spec, outer, one[None]) for one in sequences)
    found: list[Sequence[Tensor]] = [activations.store(work / "inputs-0", embedded)]
    for layer in range(spec.num_layers):
        w = transformer.layer_weights(checkpoint, layer)
        put_out = map(partial(transformer.block, spec, layer, w), found[-1])
        found.append(activations.store(work / f"inputs-{layer + 1}", put_out))
    return found


class _Back:
    """The way back through one block; `squares`: of its weights' gradients, summed over the sequences."""

    def __init__(self, spec: ModelSpec, layer: int, w: Weights, names: Sequence[str]) -> None:
        self.spec, self.layer, self.w = spec, layer, w
        self.squares = {name: torch.zeros_like(w[name]) for name in names}

    def run(self, inputs: Sequence[Tensor], behind: Sequence[Tensor]) -> Iterator[Tensor]:
        """d loss / d input of each sequence."""
        for x, gradient in zip(inputs, behind, strict=True):
            found, before = through_block(self.spec, self.layer, self.w, x, gradient, self.squares)
            for name, one in found.items():
                self.squares[name].addcmul_(one, one)
            yield before


def _file(directory: Path, layer: int) -> Path:
    return directory / f"{layer:05d}.safetensors"


def _forget(work: Path, layer: int) -> None:
    shutil.rmtree(work / f"inputs-{layer}")
    shutil.rmtree(work / f"gradients-{layer}")


def _inside(wanted: frozenset[str], layer: int) -> list[str]:
    prefix = f"model.layers.{layer}."
    return sorted(f"{name.removeprefix(prefix)}.weight" for name in wanted if name.startswith(prefix))

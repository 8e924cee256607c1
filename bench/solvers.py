"""How much of a matrix's output does each way of finding codes lose, on text it was not calibrated on?

    python bench/solvers.py [--format '{type: int, bits: 4, group_size: 64}'] [--layers 3,12] [--samples 16]

Real matrices, one for each input of a layer, and the statistics of what they read in full precision. Shown
is the geometric mean over layers of the lost share of the output's power, in percent.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from intaglio import terms
from intaglio.compression import calibration
from intaglio.formats import Format
from intaglio.models import open_checkpoint, roles, texts, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Observation
from intaglio.recipe import Calibration
from intaglio.solvers import Clip, Greedy, Obs, Solver
from intaglio.terms import Dense, Metric
from intaglio.types import Array

READERS = {point: members[0] for point, members in roles.INPUTS.items()}  # the first that reads each input
VARIANTS: dict[str, tuple[Solver, Clip | None]] = {
    "nearest": (Greedy(), None),
    "nearest, clip": (Greedy(), Clip()),
    "obs, natural order, moving grid": (Obs(order="natural", grid="moving"), None),
    "obs, natural order, moving grid, clip": (Obs(order="natural", grid="moving"), Clip()),
    "obs, natural order, clip": (Obs(order="natural"), Clip()),
    "obs": (Obs(), None),
    "obs, clip": (Obs(), Clip()),
    "obs, clip, damp 0.01": (Obs(damp=0.01), Clip()),
    "obs, clip, damp 0.2": (Obs(damp=0.2), Clip()),
}


class Matrix(NamedTuple):
    """Weights, and the statistics of what they read in calibration and in held-out text."""

    role: str
    w: torch.Tensor
    seen: Metric
    unseen: Metric


def main() -> None:
    """Run and print."""
    options = arguments()
    fmt = msgspec.yaml.decode(options.format.encode(), type=Format)
    checkpoint = open_checkpoint(options.model)
    settings = Calibration(samples=options.samples)
    seen = calibration.draw(checkpoint, texts.DEFAULT, settings).tokens
    unseen = calibration.cut(checkpoint, [texts.evaluation_text()], settings.seq_len, "the evaluation text")
    found = list(matrices(checkpoint, seen, unseen[: options.samples], options.layers))
    print(f"{options.format}, layers {options.layers}, {seen.size} tokens\n")
    print(f"{'lost output power, %':40}" + "".join(f"{role:>8}" for role in READERS.values()) + "     all")
    for name, (solver, clip) in VARIANTS.items():
        losses = [(m.role, loss(m, solver, fmt, clip)) for m in found]
        columns = [mean([x for role, x in losses if role == wanted]) for wanted in READERS.values()]
        print(
            f"{name:40}" + "".join(f"{x:8.3f}" for x in (*columns, mean([x for _, x in losses]))), flush=True
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--format", default="{type: int, bits: 4, group_size: 64}")
    parser.add_argument(
        "--layers", type=lambda text: {int(layer) for layer in text.split(",")}, default={3, 12, 29}
    )
    parser.add_argument("--samples", type=int, default=16, help="windows of 512 tokens, of each text")
    return parser.parse_args()


def matrices(checkpoint: Checkpoint, seen: Array, unseen: Array, layers: set[int]) -> Iterator[Matrix]:
    """One reader of each input of the layers asked for; both texts go through the blocks side by side."""
    spec, outer = checkpoint.spec, transformer.outer_weights(checkpoint)
    streams = [
        [
            transformer.embed(spec, outer, torch.from_numpy(two))
            for two in np.array_split(text, len(text) // 2)
        ]
        for text in (seen, unseen)
    ]
    for layer in range(max(layers) + 1):
        w = transformer.layer_weights(checkpoint, layer)
        if layer in layers:
            observed = [Observation(spec, layer, w, stream) for stream in streams]
            for point, role in READERS.items():
                metrics = (Metric(one.hessian(point)) for one in observed)
                yield Matrix(role, w[f"{roles.LINEARS[role]}.weight"], *metrics)
        streams = [[transformer.block(spec, layer, w, x) for x in stream] for stream in streams]


def loss(m: Matrix, solver: Solver, fmt: Format, clip: Clip | None) -> float:
    """Percent of the output's power lost on held-out text."""
    coded = solver.solve(m.w, (Dense(fmt),), m.seen, clip=clip)
    return 100 * m.unseen.relative(m.w, m.w - terms.decode(coded))


def mean(losses: list[float]) -> float:
    """Geometric: matrices differ by an order of magnitude."""
    return math.exp(sum(map(math.log, losses)) / len(losses))


if __name__ == "__main__":
    with torch.no_grad():
        main()

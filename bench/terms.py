"""Does decoding follow the bytes? Every recipe's terms as the layers of a 1B model, beside 4-bit groups.

    python bench/terms.py [--recipes gptq-w3,spqr] [--shape llama-3.2-1b] [--layers 4] [--rounds 5] [--json]

Weights are random and solved for on random statistics: only their form matters here. All matrices of a shape
are the same numbers in places of their own, in more memory than caches hold. `MB` are the bytes the kernels
read, `stored` those of the artifact, which differ where kernels want another form. `time/bytes` is how much
longer than the reference's a byte that is read takes: 1.0 follows the bytes, and 1.25 is what is still called
so. Rounds go over all recipes in turn; medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import cache
from statistics import median

import numpy as np
import torch

from intaglio.benchmark.synthetic import SHAPES, made
from intaglio.compression.workers import Task, solve
from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.formats import Integer
from intaglio.models import roles
from intaglio.recipe import load_recipe, shipped_names
from intaglio.recipe.schema import Rule
from intaglio.solvers import Greedy
from intaglio.terms import Coded, Dense, Metric

REFERENCE = "rtn-w4"
STEPS = 20  # decoded tokens of a round
SAMPLES = 4096  # random inputs behind the statistics


def main() -> None:
    """Solve, run in turn, print."""
    options = arguments()
    names = [REFERENCE, *(name for name in options.recipes if name != REFERENCE)]
    models = {}
    for name in names:
        if (rule := widest(name)) is None:
            print(f"{name}: its terms are searched for", file=sys.stderr)
            continue
        started = time.monotonic()
        models[name] = Model(rule, options.shape, options.layers, options.threads)
        print(f"{name}: solved and packed in {time.monotonic() - started:.0f} s", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(options.rounds):
        for name, model in models.items():
            times[name].append(model.seconds())
    rows = list(compared(models, times))
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    heads = ["stored", "MB", "ms", "GB/s", "bytes", "time", "time/bytes"]
    print(f"{'recipe':22} " + " ".join(f"{head:>7}" for head in heads))
    form = (
        "{recipe:22} {stored_mb:7.1f} {mb:7.1f} {ms:7.2f} {gb_s:7.1f} {bytes:7.2f} {time:7.2f} {ratio:10.2f}"
    )
    for row in rows:
        print(form.format(**row))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", type=lambda text: text.split(","), default=list(shipped_names()))
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-1b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def widest(recipe: str) -> Rule | None:
    """What a recipe makes of most matrices."""
    return next((rule for rule in load_recipe(recipe).weights if rule.terms), None)


class Model:
    """Some layers of the shape, coded by one rule, behind a vocabulary too small to matter."""

    def __init__(self, rule: Rule, shape: str, layers: int, threads: int | None) -> None:
        config = SHAPES[shape] | {"num_hidden_layers": layers, "vocab_size": 64}
        checkpoint = made(shape, config, cache(lambda site, size: coded(rule, site, size)))
        self._executor = Executor(checkpoint, threads=threads, kv="int4", max_sequences=1, max_context=512)
        self._pages = self._executor.pool.allocate(8)
        self.nbytes = sum(line.nbytes for line in self._executor.plan)
        self.stored = checkpoint.nbytes

    def seconds(self) -> float:
        """Of a decoded token; the first ones of a round do not count."""
        marks = []
        for position in range(STEPS + 3):
            marks.append(time.perf_counter())
            self._executor.step([Chunk([position], position, self._pages, draws=1)])
        return median(np.diff(marks[3:]))


def coded(rule: Rule, site: str, size: tuple[int, int]) -> Coded:
    """A random matrix by the rule; by nearest codes if it is the vocabulary's."""
    if site == roles.EMBEDDING:
        return Greedy().solve(torch.randn(size), (Dense(Integer(bits=8)),), Metric(), name=site)
    return solved(rule, size)


@cache
def solved(rule: Rule, size: tuple[int, int]) -> Coded:
    """Of normal weights, under statistics of inputs some of which are loud."""
    torch.manual_seed(0)
    rows, cols = size
    x = torch.randn(SAMPLES, cols) * torch.exp(0.7 * torch.randn(cols))
    metric = {
        "activations": lambda: Metric(x.T @ x / SAMPLES),
        "fisher": lambda: Metric(elements=torch.rand(rows, cols) ** 4),
        "identity": Metric,
    }[rule.metric]()
    return solve(Task(rule, torch.randn(rows, cols) * cols**-0.5, None, metric, "random"))


def compared(models: dict[str, Model], times: dict[str, list[float]]) -> Iterator[dict[str, float | str]]:
    """A row a recipe."""
    first_bytes, first_time = models[REFERENCE].nbytes, median(times[REFERENCE])
    for name, model in models.items():
        seconds = median(times[name])
        nbytes, took = model.nbytes / first_bytes, seconds / first_time
        yield {
            "recipe": name,
            "stored_mb": model.stored / 1e6,
            "mb": model.nbytes / 1e6,
            "ms": seconds * 1e3,
            "gb_s": model.nbytes / seconds / 1e9,
            "bytes": nbytes,
            "time": took,
            "ratio": took / nbytes,
        }


if __name__ == "__main__":
    main()

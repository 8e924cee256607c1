"""How much memory and time it takes to compress a model of 1.2 billion weights.

    python bench/memory.py --recipes rtn-w4,gptq-w4 [--shape llama-3.2-1b] [--layers 16] [--samples 8]
                           [--most-gb 6] [--set PATH=VALUE]

The shape is a public one with random numbers, the tokenizer the packaged model's; each recipe (`all`: every
shipped one) runs in its own process, and its result is checked as always. With --layers the model has fewer:
memory is that of one layer and of what lies outside; what takes long, as K-SVD does, can be cut short
(`--set weights.0.solver.sweeps=1`: as much memory). Exits with 1 if one needs more than --most-gb, with 2 if
one fails.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path


def compress(shape: str, layers: int | None, recipe: str, samples: int, changed: list[str]) -> None:
    """In this process: compress, and print seconds and peak memory."""
    import intaglio
    from intaglio.benchmark.synthetic import PREFIX, original
    from intaglio.models import open_checkpoint

    files = open_checkpoint("smollm2-135m").files
    checkpoint = replace(original(PREFIX + shape, layers), files=files, identify=lambda: shape)
    settings = ["limits.perplexity=1000000", "limits.kl=100"]  # random numbers predict nothing
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        intaglio.compress(
            checkpoint,
            recipe,
            Path(directory) / "out",
            samples=samples,
            seq_len=256,
            set=[*settings, *changed],
            progress=lambda event: print(
                f"  {peak() / 1e9:.2f} GB {event.done}/{event.total} {event.message}", file=sys.stderr
            ),
        )
    print(time.monotonic() - started, peak())


def peak() -> int:
    """The most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", default="rtn-w4,gptq-w4")
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--most-gb", type=float, default=6)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        compress(arguments.shape, arguments.layers, arguments.here, arguments.samples, arguments.set)
        return
    code, recipes = 0, recipe_names(parser, arguments.recipes)
    print(f"{'recipe':24} {'minutes':>8} {'peak GB':>8}")
    for recipe in recipes:
        command = [sys.executable, __file__, *sys.argv[1:], "--here", recipe]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{recipe:24} failed", flush=True)
            code = 2
            continue
        seconds, most = map(float, done.stdout.split())
        print(f"{recipe:24} {seconds / 60:8.1f} {most / 1e9:8.2f}", flush=True)
        code = max(code, int(most > arguments.most_gb * 1e9))
    sys.exit(code)


def recipe_names(parser: argparse.ArgumentParser, given: str) -> list[str]:
    from intaglio.comparison.request import Request
    from intaglio.errors import UsageError

    try:
        return list(Request(model="", recipes=tuple(given.split(","))).loaded())
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

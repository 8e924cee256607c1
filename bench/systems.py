"""Every shipped recipe and what it did: writes docs/systems.md from a comparison.

    intaglio compare smollm2-135m --recipes all --json > comparison.json
    python bench/systems.py comparison.json [--machine "2 cores of ..."] > docs/systems.md

Recipes that were not compared are listed as that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from intaglio.comparison.result import Comparison, Row
from intaglio.comparison.table import larger_baselines, verdict
from intaglio.models import scheme
from intaglio.recipe import Recipe, shipped
from intaglio.recipe.schema import Rule

TITLE = """# Systems

One row a recipe; `intaglio recipes NAME` prints it, `intaglio compress MODEL --recipe NAME` carries it out.

Made by `{command}` and `python bench/systems.py`. {machine}
Model: `{model}`, {bits} bits as it comes, perplexity {perplexity}, {speed} tokens/s ({runtime}).
Text: {text}; calibration: {calibration}.

*Bits* count every stored byte of the whole model, its vocabulary included. *Rounding*: the perplexity
of the smallest recipe that merely rounds its weights to nearest and takes no fewer bits. *Verdict*: whether
each claim of the recipe holds, **fails** or is **open** (this run cannot examine it), and who dominates the
recipe (no more bits, less perplexity): the best of those, and each that merely rounds. *Slower than*: fewer
bytes do not pay in time, for of those that merely round the next larger decodes more than a tenth faster.
*Tokens/s*: decoding of one sequence, the median of rounds in each of which all recipes were timed in turn.

Half of a matrix in float16 takes 9 bits a weight, two of every four (`2:4`) as anywhere (`bitmask`): more
than all of it in 8 bits, which is also faster. Here sparsity pays in bits beside codes alone (`gqsa`).

| recipe | paper | weights x activations | bits | perplexity | rounding | KL | tokens/s | verdict |
|---|---|---|---|---|---|---|---|---|"""
SAYS = {True: "holds", False: "**fails**", None: "**open**"}
WIDE = (4096, 4096)  # for which terms are named: no rank or basis is cut short


def page(found: Comparison, machine: str) -> Iterator[str]:
    """The lines of the file."""
    original = found.original
    yield TITLE.format(
        command=found.command,
        machine=machine,
        model=found.model,
        bits=f"{original.bits_per_weight:.2f}",
        perplexity=f"{original.perplexity:.2f}",
        speed=f"{original.decode_tokens_per_s:.0f}",
        runtime=original.runtime,
        text=f"{original.windows} windows of {original.seq_len} tokens of {original.text}",
        calibration=found.calibration,
    )
    rows = {row.recipe: row for row in found.rows}
    for recipe in shipped():
        measured = _measured(rows.get(recipe.name), found)
        yield f"| `{recipe.name}` | {recipe.source} | {_form(recipe)} | {measured} |"


def _form(recipe: Recipe) -> str:
    """What its widest rule makes of a matrix."""
    rule = next((rule for rule in recipe.weights if rule.terms), Rule())
    weights = " + ".join(scheme.of_term(term, WIDE) for term in rule.terms) or "searched"
    return f"{weights} x {scheme.of_input(rule.activation)}"


def _measured(row: Row | None, found: Comparison) -> str:
    if row is None:
        return "– | – | – | – | – | **open**, not in this run"
    if row.result is None:
        return f"– | – | – | – | – | **open**, the recipe failed: {row.failure}"
    result = row.result
    return " | ".join(
        [
            f"{result.bits_per_weight:.2f}",
            f"{result.perplexity:,.2f}",
            _rounding(result.bits_per_weight, found),
            f"{result.kl_mean or 0:.3f}",
            f"{result.decode_tokens_per_s:.0f}",
            _verdict(row, found),
        ]
    )


def _rounding(bits: float, found: Comparison) -> str:
    floats = {recipe.name for recipe in shipped() if all(rule.activation is None for rule in recipe.weights)}
    smallest = next((name for name in larger_baselines(bits, found) if name in floats), None)
    if smallest is None:
        return "–"
    result = found.measured[smallest]
    return f"{result.perplexity:,.2f} at {result.bits_per_weight:.2f}"


def _verdict(row: Row, found: Comparison) -> str:
    return "; ".join([*(f"{SAYS[one.holds]}: {one.claim}" for one in row.claims), verdict(row, found)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--machine", default="")
    arguments = parser.parse_args()
    found = msgspec.json.decode(arguments.comparison.read_bytes(), type=Comparison)
    sys.stdout.write("\n".join(page(found, arguments.machine)) + "\n")


if __name__ == "__main__":
    main()

"""How much of the quality does each recipe keep, at how many bits?

    python bench/quality.py [--recipes rtn-w4,gptq-w4] [--text wikitext2-valid.txt] [--json]

Compresses a model with each recipe and scores 24 windows of 512 tokens through the integer executor. Without
--text, half of the text every Python ships calibrates and the other half scores. With --text FILE, the first
windows of FILE score, and its last third calibrates together with the shipped text.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import intaglio
from intaglio.compression import Report, console
from intaglio.engine.executor import Executor
from intaglio.evaluation.measure import sample_text
from intaglio.evaluation.quality import compare
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import load_recipe, shipped_names
from intaglio.types import Array


class Row(NamedTuple):
    """One recipe's line."""

    recipe: str
    bits_per_weight: float
    perplexity: float
    kl_mean: float
    top1_agreement: float
    seconds: float


def main() -> None:
    """Run, print, and fail if a claim between the recipes that ran does not hold."""
    options = arguments()
    base = open_checkpoint(options.model)
    windows = sample_text(base, options.text, options.windows, options.seq_len).windows
    with tempfile.TemporaryDirectory(dir=options.directory) as work:
        calibration = texts(options.text, Path(work))
        rows = [
            measured(options, base, recipe, calibration, windows, Path(work)) for recipe in options.recipes
        ]
    rows.insert(0, original(base, windows, options.threads))
    broken = [text for row in rows[1:] for text in broken_claims(row, {r.recipe: r for r in rows}, rows[0])]
    if options.json:
        print(json.dumps({"rows": [row._asdict() for row in rows], "broken_claims": broken}, indent=1))
    else:
        print_table(rows, broken)
    raise SystemExit(bool(broken))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--recipes", type=lambda text: text.split(","), default=list(shipped_names()))
    parser.add_argument("--text", type=Path)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--set", action="append", default=[], help="override of every recipe, path=value")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--directory", type=Path, help="where to keep the artifacts while working")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def texts(text: Path | None, work: Path) -> list[str | Path]:
    """What calibrates: the shipped text, and the last third of the scored file."""
    if text is None:
        return ["pydoc"]
    whole = text.read_text(encoding="utf-8")
    rest = work / "last-third.txt"
    rest.write_text(whole[len(whole) * 2 // 3 :], encoding="utf-8")
    return ["pydoc", rest]


def measured(
    options: argparse.Namespace,
    base: Checkpoint,
    recipe: str,
    calibration: list[str | Path],
    windows: list[Array],
    work: Path,
) -> Row:
    """Compress and score."""
    started = time.monotonic()
    with console() as progress:
        report: Report = intaglio.compress(
            base,
            recipe,
            work / recipe,
            calibration=calibration,
            set=options.set,
            threads=options.threads,
            progress=progress,
        )
    seconds = time.monotonic() - started
    found = scored(base, open_checkpoint(work / recipe), windows, options.threads)
    return Row(recipe, report.bits_per_weight, *found, seconds)


def original(base: Checkpoint, windows: list[Array], threads: int | None) -> Row:
    """The line of full precision."""
    parameters = sum(math.prod(base.linears[name].shape) for name in base.linears)
    return Row("full precision", 8 * base.nbytes / parameters, *scored(base, base, windows, threads), 0.0)


def scored(
    base: Checkpoint, model: Checkpoint, windows: list[Array], threads: int | None
) -> tuple[float, float, float]:
    """Perplexity, mean KL and top-1 agreement."""
    seq_len = len(windows[0])
    ours, theirs = (
        Executor(one, threads=threads, max_context=seq_len, max_sequences=1) for one in (model, base)
    )
    found = compare((ours.logits, theirs.logits), windows, (model.name, base.name), lambda: None)
    return found.perplexities[0], found.kl_mean, found.top1_agreement


def closed(row: Row, beside: Row, full: Row) -> float:
    """Share of the log-perplexity gap to full precision that `beside` leaves and `row` closes."""
    gap = math.log(beside.perplexity / full.perplexity)
    return math.log(beside.perplexity / row.perplexity) / gap if gap > 0 else 0.0


def broken_claims(row: Row, rows: dict[str, Row], full: Row) -> list[str]:
    """What the recipe promises and this run does not show."""
    broken = []
    for claim in load_recipe(row.recipe).claims:
        if claim.within is not None:
            if row.perplexity > full.perplexity * (1 + claim.within):
                broken.append(f"{row.recipe}: perplexity not within {claim.within:.0%} of full precision")
            continue
        if (beside := rows.get(claim.better_than or "")) is None:
            continue
        if getattr(row, claim.metric) >= getattr(beside, claim.metric):
            broken.append(f"{row.recipe}: {claim.metric} not better than {beside.recipe}")
        if claim.closes is not None and closed(row, beside, full) < claim.closes:
            share = closed(row, beside, full)
            broken.append(
                f"{row.recipe}: closes {share:.0%} of the gap of {beside.recipe}, not {claim.closes:.0%}"
            )
    return broken


def print_table(rows: list[Row], broken: list[str]) -> None:
    named = {row.recipe: row for row in rows}
    print(
        "| recipe | bits/weight | perplexity | KL | top-1 | gap closed | seconds |",
        "|---" * 7 + "|",
        sep="\n",
    )
    for row in rows:
        claims = load_recipe(row.recipe).claims if row is not rows[0] else ()
        beside = next((named[c.better_than] for c in claims if c.closes and c.better_than in named), None)
        gap = f"{closed(row, beside, rows[0]):.0%} of {beside.recipe}" if beside else ""
        print(
            f"| {row.recipe} | {row.bits_per_weight:.2f} | {row.perplexity:.2f} | {row.kl_mean:.4f} "
            f"| {row.top1_agreement:.1%} | {gap} | {row.seconds:.0f} |"
        )
    for text in broken:
        print(f"BROKEN CLAIM  {text}")


if __name__ == "__main__":
    main()

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
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import intaglio
from intaglio.comparison.claims import closed, judge
from intaglio.compression import Report, console
from intaglio.compression.verify import parameters
from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.evaluation.measure import sample_text
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import load_recipe, shipped_names
from intaglio.types import Array


class Score(NamedTuple):
    """What one model does with the text."""

    perplexity: float
    kl_mean: float
    top1_agreement: float


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
    with tempfile.TemporaryDirectory(dir=options.directory) as work:
        calibration = texts(options.text, Path(work))
        reports = {
            recipe: compressed(options, base, recipe, calibration, Path(work)) for recipe in options.recipes
        }
        models = {recipe: open_checkpoint(Path(work) / recipe) for recipe in reports}
        scores = scored(options, base, models)
    rows = [Row("full precision", 8 * base.nbytes / parameters(base), *scores.pop(0), 0.0)]
    for (recipe, report), found in zip(reports.items(), scores, strict=True):
        rows.append(Row(recipe, report.bits_per_weight, *found, report.seconds or 0.0))
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


def compressed(
    options: argparse.Namespace, base: Checkpoint, recipe: str, calibration: list[str | Path], work: Path
) -> Report:
    """The artifact, in `work`."""
    with console() as progress:
        return intaglio.compress(
            base,
            recipe,
            work / recipe,
            calibration=calibration,
            set=options.set,
            threads=options.threads,
            progress=progress,
        )


def scored(options: argparse.Namespace, base: Checkpoint, models: dict[str, Checkpoint]) -> list[Score]:
    """The original and every model, window by window, so that the original runs once."""
    windows = sample_text(base, options.text, options.windows, options.seq_len).windows
    executors = [
        Executor(one, threads=options.threads, max_context=options.seq_len, max_sequences=1)
        for one in (base, *models.values())
    ]
    found: list[list[tuple[Array, Array, Array]]] = [[] for _ in executors]
    for number, window in enumerate(windows, 1):
        print(f"scoring window {number} of {len(windows)}", file=sys.stderr)
        original = executors[0].logits(window)[:-1]
        for rows, executor in zip(found, executors, strict=True):
            logits = original if executor is executors[0] else executor.logits(window)[:-1]
            rows.append(
                (score.nll(logits, window[1:]), score.kl(original, logits), score.top1(original, logits))
            )
    return [summed(rows) for rows in found]


def summed(rows: list[tuple[Array, Array, Array]]) -> Score:
    """Over all tokens of all windows."""
    nll, kl, same = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Score(math.exp(float(nll.mean())), float(kl.mean()), float(same.mean()))


def broken_claims(row: Row, rows: dict[str, Row], full: Row) -> list[str]:
    """What the recipe promises and this run does not show."""
    verdicts = judge(load_recipe(row.recipe).claims, row, rows, full)
    return [f"{row.recipe}: not borne out: {one.claim}" for one in verdicts if one.holds is False]


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

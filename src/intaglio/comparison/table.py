"""The table of a comparison: a row a recipe, for the terminal and for the page."""

from __future__ import annotations

from intaglio.comparison.dominance import EQUAL
from intaglio.comparison.result import Comparison, Row, Verdict
from intaglio.evaluation import Result
from intaglio.pages.table import Table

HEADERS = ["recipe", "bits", "MB", "perplexity", "KL", "top-1", "tokens/s", "peak MB", "claims", "verdict"]


def table(found: Comparison) -> Table:
    """The original, then the recipes that were measured by bits and perplexity, then those that failed."""
    measured = sorted(
        (row for row in found.rows if row.result), key=lambda row: _order(found.measured[row.recipe])
    )
    rows = [["original", *_numbers(found.original), "", ""]]
    rows += [
        [row.recipe, *_numbers(found.measured[row.recipe]), _claims(row.claims), verdict(row, found)]
        for row in measured
    ]
    rows += [[row.recipe, *["–"] * 8, f"failed: {row.failure}"] for row in found.rows if row.failure]
    original = found.original
    title = f"{original.windows} windows of {original.seq_len} tokens of {original.text}"
    return Table(title, HEADERS, rows, words=(0, len(HEADERS) - 2, len(HEADERS) - 1))


def verdict(row: Row, found: Comparison) -> str:
    """Whether the recipe is worth its bits. Plain rounding that beats it is always named."""
    best = "least perplexity" + ("" if found.budget_bits is None else " in the budget")
    said = ["over budget"] if row.over_budget else [best] if row.recipe == found.best else []
    if row.dominated_by:
        first, *others = row.dominated_by
        baselines = [name for name in others if found.row(name).baseline]
        said.append(f"dominated by {', '.join([first, *baselines])}")
    if slower := _slower_than(row, found):
        said.append(f"slower than {slower}")
    return "; ".join(said) or "on the frontier"


def _slower_than(row: Row, found: Comparison) -> str | None:
    """The next larger recipe that merely rounds, if it decodes a tenth faster (bytes that do not pay)."""
    if row.baseline or row.recipe not in found.measured:
        return None
    own = found.measured[row.recipe]
    following = next(iter(larger_baselines(own.bits_per_weight, found)), None)
    if following is None or found.measured[following].decode_tokens_per_s <= 1.1 * own.decode_tokens_per_s:
        return None
    return following


def larger_baselines(bits: float, found: Comparison) -> list[str]:
    """Recipes that merely round and take no fewer bits (or equal ones), the smallest first."""
    sizes = {row.recipe: row.result.bits_per_weight for row in found.rows if row.baseline and row.result}
    return sorted((name for name, size in sizes.items() if size >= bits * (1 - EQUAL)), key=sizes.__getitem__)


def broken(found: Comparison) -> list[str]:
    """The claims that these numbers do not bear out, and those that could not be looked at."""
    return [
        f"{row.recipe}: {'not borne out' if one.holds is False else 'not examined'}: {one.claim}"
        for row in found.rows
        for one in row.claims
        if not one.holds
    ]


def failed(found: Comparison) -> list[str]:
    """How many recipes failed, and why each; nothing where none did."""
    why = [f"{row.recipe}: {row.failure}" for row in found.rows if row.failure]
    return [f"{len(why)} of {len(found.rows)} recipes failed: {'; '.join(why)}"] if why else []


def _order(result: Result) -> tuple[float, float]:
    return round(result.bits_per_weight, 2), result.perplexity


def _numbers(result: Result) -> list[str]:
    return [
        f"{result.bits_per_weight:.2f}",
        f"{result.bytes / 1e6:,.1f}",
        f"{result.perplexity:,.2f}",
        "" if result.kl_mean is None else f"{result.kl_mean:.4f}",
        "" if result.top1_agreement is None else f"{result.top1_agreement:.1%}",
        f"{result.decode_tokens_per_s:,.0f}",
        f"{result.peak_rss_bytes / 1e6:,.0f}",
    ]


def _claims(verdicts: tuple[Verdict, ...]) -> str:
    """2 hold, 1 fails."""
    counts = {
        "hold": sum(one.holds is True for one in verdicts),
        "fail": sum(one.holds is False for one in verdicts),
        "open": sum(one.holds is None for one in verdicts),
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)

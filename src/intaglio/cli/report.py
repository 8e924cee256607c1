"""The tables of `intaglio eval`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from intaglio.cli.console import note, number, size, table

if TYPE_CHECKING:
    from intaglio.evaluation import Result

Format = Callable[[float], str]
BAR = 40  # columns of the longest bar


def _percent(value: float) -> str:
    return f"{value:.1%}"


# line -> (attribute of a Result, how to write it)
LINES: dict[str, tuple[str, Format]] = {
    "size": ("bytes", size),
    "bits per weight": ("bits_per_weight", number),
    "perplexity": ("perplexity", number),
    "KL to the original, mean": ("kl_mean", number),
    "KL to the original, max": ("kl_max", number),
    "top-1 agreement": ("top1_agreement", _percent),
    "prefill tokens/s": ("prefill_tokens_per_s", number),
    "decode tokens/s": ("decode_tokens_per_s", number),
    "peak memory": ("peak_rss_bytes", size),
    "joules per token": ("joules_per_token", number),
}


def show(result: Result) -> None:
    """Everything measured, the original beside it if there is one."""
    base = result.against
    headers = ["", result.model] if base is None else ["", base.model, result.model, "ratio"]
    rows = [line for line in (_line(name, result) for name in LINES) if line]
    rows += [_words(name, result) for name in ("runtime", "dtype")]
    rows += _tasks(result)
    table(headers, rows, right=range(1, len(headers)))
    if result.per_layer:
        _layers(result)
    for one in (base, result):
        if one is not None and one.runtime == "transformers" and one.bits_per_weight < 16:
            _decoded(one)
    note(f"{result.windows} windows of {result.seq_len} tokens of {result.text}, {result.threads} threads")


def _decoded(result: Result) -> None:
    """Says that the numbers are those of the decoded model, where the file has few bits (GGUF)."""
    note(
        f"{result.model} comes in {number(result.bits_per_weight)} bits per weight and was measured decoded"
        f" to {result.dtype}; its float16 form would take {size(2 * result.parameters)}"
    )


def _line(name: str, result: Result) -> list[str] | None:
    """One measured number; None if nobody has it."""
    attribute, write = LINES[name]
    ours, base = getattr(result, attribute), result.against
    if ours is None:
        return None
    if base is None:
        return [name, write(ours)]
    theirs = getattr(base, attribute)
    return [name, *_beside(theirs, ours, write)]


def _beside(theirs: float | None, ours: float | None, write: Format) -> list[str]:
    ratio = f"{ours / theirs:.3f} x" if ours is not None and theirs else ""
    return ["" if value is None else write(value) for value in (theirs, ours)] + [ratio]


def _words(name: str, result: Result) -> list[str]:
    if result.against is None:
        return [name, getattr(result, name)]
    return [name, getattr(result.against, name), getattr(result, name), ""]


def _tasks(result: Result) -> list[list[str]]:
    rows = []
    for task, metrics in (result.tasks or {}).items():
        for metric, value in metrics.items():
            if result.against is None:
                rows.append([f"{task} {metric}", number(value)])
                continue
            theirs = ((result.against.tasks or {}).get(task) or {}).get(metric)
            rows.append([f"{task} {metric}", *_beside(theirs, value, number)])
    return rows


def _layers(result: Result) -> None:
    """A bar a layer: what its compression alone costs."""
    found = result.per_layer or []
    worst = max(one.kl_mean for one in found) or 1.0
    rows = [
        [str(one.layer), number(one.kl_mean), number(one.kl_max), "█" * round(BAR * one.kl_mean / worst)]
        for one in found
    ]
    title = f"KL to the original with only this layer compressed, {result.per_layer_windows} windows"
    table(["layer", "mean", "max", ""], rows, right=(0, 1, 2), title=title)

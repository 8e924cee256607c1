"""Statistics: what the requests of a part, or all, were like together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from intaglio.load.objectives import Objectives
from intaglio.load.record import Record

MEASURES = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")


class Distribution(msgspec.Struct, frozen=True):
    """Percentiles are exact, between two values on the line that joins them."""

    count: int
    mean: float
    median: float
    p90: float
    p95: float
    p99: float
    max: float


class Goodput(msgspec.Struct, frozen=True):
    """Requests that met every objective: their share of all that ended, also of failed ones; and a second."""

    share: float
    requests_per_s: float


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, rates and distributions are those of requests answered whole."""

    completed: int
    failed: int
    errors: dict[str, int]
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    goodput: Goodput | None
    ttft_ms: Distribution | None
    itl_ms: Distribution | None
    tpot_ms: Distribution | None
    e2e_ms: Distribution | None


def statistics(records: Sequence[Record], seconds: float, objectives: Objectives) -> Statistics:
    """Of the requests that ended within so many seconds."""
    whole = [one for one in records if one.error is None]
    prompt = sum(one.prompt_tokens or one.asked_tokens or 0 for one in whole)
    output = sum(one.output_tokens for one in whole)
    cached = [one.cached_tokens for one in whole if one.cached_tokens is not None]
    good = sum(objectives.met(one) for one in whole)
    return Statistics(
        completed=len(whole),
        failed=len(records) - len(whole),
        errors=dict(Counter(one.error for one in records if one.error is not None).most_common()),
        prompt_tokens=prompt,
        cached_tokens=sum(cached) if cached else None,
        output_tokens=output,
        requests_per_s=len(whole) / seconds,
        output_tokens_per_s=output / seconds,
        total_tokens_per_s=(prompt + output) / seconds,
        goodput=Goodput(good / len(records), good / seconds) if objectives.most and records else None,
        ttft_ms=distribution(one.ttft_ms for one in whole),
        itl_ms=distribution(gap for one in whole for gap in one.itl_ms),
        tpot_ms=distribution(one.tpot_ms for one in whole),
        e2e_ms=distribution(one.e2e_ms for one in whole),
    )


def distribution(values: Iterable[float | None]) -> Distribution | None:
    """Of the values that are known; None where none is."""
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return None
    median, p90, p95, p99 = np.percentile(known, (50, 90, 95, 99)).tolist()
    return Distribution(known.size, float(known.mean()), median, p90, p95, p99, float(known.max()))

"""Trouble: a load that cannot be sent, in one sentence that says what would work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from intaglio.load.failure import NO_CONNECTION, Failure
from intaglio.load.record import Record
from intaglio.load.target import Target


def sentence(target: Target, path: str, failure: Failure) -> str:
    """Why nothing came of a request to this path."""
    if failure.kind == NO_CONNECTION:
        return (
            f"{target.url}: {failure.detail or failure.kind}: no server answers there; start one"
            " (intaglio serve MODEL), or give the URL of one that runs: intaglio bench-serve http://HOST:PORT"
        )
    said = f"{target.url}{path}: {failure}"
    if failure.kind in ("HTTP 401", "HTTP 403"):
        return f"{said}; give its key with --api-key or in OPENAI_API_KEY"
    if failure.kind == "HTTP 404":
        return f"{said}; it may serve other paths (--endpoint) or another model (--model)"
    return said


def all_failed(target: Target, records: Sequence[Record]) -> str | None:
    """A sentence where requests ended and none was answered whole."""
    if not records or any(one.error is None for one in records):
        return None
    kinds = Counter(one.error or "" for one in records)
    most = kinds.most_common(1)[0][0]
    detail = next(one.detail for one in records if one.error == most)
    counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
    why = sentence(target, target.endpoint, Failure(most, detail))
    return f"all {len(records)} requests failed ({counts}): {why}"

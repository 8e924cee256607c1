"""Records for tests: answered whole unless said otherwise."""

from __future__ import annotations

from typing import Any

import msgspec

from intaglio.load.record import Record

PLAIN = Record(
    index=0, part="all", due_s=0.0, sent_s=0.0, ttft_ms=100.0, tpot_ms=10.0, e2e_ms=200.0, itl_ms=[10.0] * 10,
    asked_tokens=8, prompt_tokens=8, cached_tokens=None, output_tokens=11, limit=11, counted=True,
    finish="length", status=200, id=None,
)  # fmt: skip


def record(**fields: Any) -> Record:
    return msgspec.structs.replace(PLAIN, **fields)

"""A short hash of everything that a kept result depends on."""

from __future__ import annotations

import hashlib
import json

DIGITS = 10  # some 10^12 values


def key(**depends_on: object) -> str:
    """Of names and values; what no longer fits has another one, is not found, and is made again."""
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

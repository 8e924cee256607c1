"""Failure: why a request came to nothing."""

from __future__ import annotations

NO_CONNECTION, DISCONNECTED, TIMEOUT = "no connection", "disconnected", "timeout"
LONGEST = 300  # characters of what a server said of it


class Failure(Exception):  # noqa: N818 - reads as what it says
    """`kind` is what failures are counted by ("timeout", "HTTP 503"), `detail` what was said of this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind = kind
        self.detail = " ".join(detail.split())[:LONGEST]
        super().__init__(f"{kind}: {self.detail}" if self.detail else kind)

"""A JSON answer, encoded at once by msgspec."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


class JsonAnswer(Response):
    """Any value of plain types; numbers that are not finite become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)

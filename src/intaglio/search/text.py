"""The calibration text, as the recipe that was found names it."""

from __future__ import annotations

import json

from intaglio.models import texts
from intaglio.models.durable import new_file
from intaglio.search.request import Request


def name(request: Request) -> str:
    """What was given; of several texts, which a recipe cannot name, a file of all their documents."""
    if not request.text:
        return request.calibration.text
    if len(request.text) == 1:
        return request.text[0]
    path = request.kept / "calibration.jsonl"
    with new_file(path) as file:
        file.write_text("".join(map(_line, texts.documents(request.text))), encoding="utf-8")
    return str(path)


def _line(document: str) -> str:
    """ASCII: what splits lines within a document is escaped."""
    return json.dumps({"text": document}) + "\n"

"""The run: a recipe carried out on a model, from its weights to a verified artifact."""

from __future__ import annotations

from intaglio.compression.progress import Event, Progress, console
from intaglio.compression.report import Report
from intaglio.compression.run import InterruptedRunError, compress

__all__ = ["Event", "InterruptedRunError", "Progress", "Report", "compress", "console"]

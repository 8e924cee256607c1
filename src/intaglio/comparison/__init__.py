"""Compares recipes on one model: all coded from the same calibration text, all measured on the same text."""

from __future__ import annotations

from intaglio.comparison.request import Request
from intaglio.comparison.result import Comparison, Row
from intaglio.comparison.run import compare

__all__ = ["Comparison", "Request", "Row", "compare"]

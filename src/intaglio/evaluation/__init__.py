"""Measures a model, alone or beside its original."""

from __future__ import annotations

from intaglio.evaluation.measure import evaluate
from intaglio.evaluation.result import LayerResult, Result

__all__ = ["LayerResult", "Result", "evaluate"]

"""Searches the best form of every matrix: losses and costs measured, the choice an integer program."""

from __future__ import annotations

from intaglio.search.request import Request
from intaglio.search.result import Found, Point
from intaglio.search.run import search

__all__ = ["Found", "Point", "Request", "search"]

"""The command line. A verb's module is imported when the verb is called."""

from __future__ import annotations

from intaglio.cli.app import main

__all__ = ["main"]

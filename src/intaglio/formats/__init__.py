"""How numbers become bits: tables (learnt) and codes (one per element).

`fit` learns tables, `encode` uses them, `decode` gives back numbers, `pack` and `unpack` move bits only.
"""

from __future__ import annotations

from intaglio.formats.floating import Floating
from intaglio.formats.integer import Integer
from intaglio.formats.twolevel import TwoLevel

Format = Integer | TwoLevel | Floating

__all__ = ["Floating", "Format", "Integer", "TwoLevel"]

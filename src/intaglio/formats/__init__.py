"""How numbers become bits: tables (learnt) and codes (one per element).

`fit` learns tables, `encode` uses them, `decode` gives back numbers, `pack` and `unpack` move bits only.
"""

from __future__ import annotations

from intaglio.formats.csr import Csr
from intaglio.formats.floating import Floating
from intaglio.formats.integer import Integer
from intaglio.formats.mixed import Mixed
from intaglio.formats.twolevel import TwoLevel

# of every element, one code | of what is left of a matrix when most of it is left out
Format = Integer | TwoLevel | Mixed | Floating
Structure = Csr
Layout = Format | Structure
Activation = Integer | Mixed  # what an input is rounded to at run time, each token by itself

__all__ = ["Activation", "Csr", "Floating", "Format", "Integer", "Layout", "Mixed", "Structure", "TwoLevel"]

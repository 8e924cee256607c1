"""How numbers become bits: tables (learnt) and codes (one per element).

`fit` learns tables, `encode` uses them, `decode` gives back numbers, `pack` and `unpack` move bits only.
"""

from __future__ import annotations

from intaglio.formats.csr import Csr
from intaglio.formats.floating import Floating
from intaglio.formats.integer import Integer
from intaglio.formats.largest import Largest
from intaglio.formats.nm import NM
from intaglio.formats.twolevel import TwoLevel

# of every element, one code | of what is left of a matrix when most of it is left out
Format = Integer | TwoLevel | Floating
Structure = Csr | NM
Layout = Format | Structure
Activation = Integer | Largest  # what the input of a linear becomes at run time

__all__ = [
    "NM",
    "Activation",
    "Csr",
    "Floating",
    "Format",
    "Integer",
    "Largest",
    "Layout",
    "Structure",
    "TwoLevel",
]

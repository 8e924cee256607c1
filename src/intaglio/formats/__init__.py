"""How numbers become bits: tables (learnt) and codes (one per element).

`fit` learns tables, `encode` uses them, `decode` gives back numbers, `pack` and `unpack` move bits only.
"""

from __future__ import annotations

from intaglio.formats.bilevel import Bilevel
from intaglio.formats.bitmask import Bitmask
from intaglio.formats.block_diagonal import BlockDiagonal
from intaglio.formats.bsr import Bsr
from intaglio.formats.csr import Csr
from intaglio.formats.floating import Floating
from intaglio.formats.integer import Integer
from intaglio.formats.largest import Largest
from intaglio.formats.lookup import Lookup
from intaglio.formats.mixed import Mixed
from intaglio.formats.nm import NM
from intaglio.formats.sparse_rows import SparseRows
from intaglio.formats.trits import Trits
from intaglio.formats.twolevel import TwoLevel

# of every element, one code on a grid | everything else, each by its own arrays
Format = Integer | TwoLevel | Floating | Bilevel | Mixed
Structure = Csr | Bitmask | SparseRows | BlockDiagonal | Bsr | NM | Lookup | Trits
Layout = Format | Structure
Activation = Integer | Mixed | Largest  # what the input of a linear becomes at run time

__all__ = [
    "NM",
    "Activation",
    "Bilevel",
    "Bitmask",
    "BlockDiagonal",
    "Bsr",
    "Csr",
    "Floating",
    "Format",
    "Integer",
    "Largest",
    "Layout",
    "Lookup",
    "Mixed",
    "SparseRows",
    "Structure",
    "Trits",
    "TwoLevel",
]

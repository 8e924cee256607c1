"""How numbers become bits: tables (learnt) and codes (one per element).

`fit` learns tables, `encode` uses them, `decode` gives back numbers, `pack` and `unpack` move bits only.
"""

from __future__ import annotations

from intaglio.formats.block_diagonal import BlockDiagonal
from intaglio.formats.csr import Csr
from intaglio.formats.floating import Floating
from intaglio.formats.integer import Integer
from intaglio.formats.sparse_rows import SparseRows
from intaglio.formats.twolevel import TwoLevel

# of every element, one code | of what is left of a matrix when most of it is left out
Format = Integer | TwoLevel | Floating
Structure = Csr | SparseRows | BlockDiagonal
Layout = Format | Structure

__all__ = [
    "BlockDiagonal",
    "Csr",
    "Floating",
    "Format",
    "Integer",
    "Layout",
    "SparseRows",
    "Structure",
    "TwoLevel",
]

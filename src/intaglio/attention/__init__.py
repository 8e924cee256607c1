"""What attention remembers: codecs for keys and values."""

from __future__ import annotations

from intaglio.attention.codecs import Affine, Half

Codec = Affine | Half

__all__ = ["Affine", "Codec", "Half"]

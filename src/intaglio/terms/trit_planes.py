"""TritPlanes: planes of digits -1, 0, 1, each with a scale per row and group (PTQTP, 2509.16989)."""

from __future__ import annotations

import msgspec

from intaglio.formats import Trits
from intaglio.formats.integer import GroupSize
from intaglio.formats.trits import Planes
from intaglio.terms.factor import Factor, Product


class TritPlanes(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="trit_planes"
):
    """Two planes make nine values a group, symmetric around 0; only a scale a group multiplies numbers."""

    planes: Planes = 2
    group_size: GroupSize = 64

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix."""
        return (Factor("", shape, Trits(self.planes, self.group_size)),)

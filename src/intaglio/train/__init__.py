"""Coded matrices trained to make up for what coding lost: block by block, then scales end to end."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.train.blocks import BlockTuning
from intaglio.train.scales import ScaleTuning

__all__ = ["BlockTuning", "ScaleTuning", "Tune"]


class Tune(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Both stages, in this order (GQSA, 2412.17560; EfficientQAT, 2407.11062).

    Of matrices with one term of integer codes, dense or sparse by groups; others stay as they were found.
    While training, inputs are not rounded, nor keys and values. `samples`: so many windows of the calibration
    text are read, though calibration alone asks for fewer; training needs more than statistics do.
    """

    samples: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 1
    blocks: BlockTuning = BlockTuning()
    scales: ScaleTuning = ScaleTuning()

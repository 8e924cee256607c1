"""Rewrites of a model's weights that keep its function and make it easier to code.

Each is a frozen struct. `refuses(spec)` says why it cannot keep the function of a model, `omits(spec)` which
part of it a model does not allow. `outer` rewrites what is outside the layers, `layer` one layer, given an
`Observation` of the block with exactly the weights it gets. None changes the dict or the tensors it is given.
"""

from __future__ import annotations

from intaglio.transforms.reorder import Reorder
from intaglio.transforms.rotate import Rotate
from intaglio.transforms.scale import ActivationScale
from intaglio.transforms.smooth import SmoothOutput
from intaglio.transforms.smooth_attention import SmoothAttention
from intaglio.transforms.smooth_input import SmoothInput

Transform = Rotate | SmoothAttention | SmoothInput | SmoothOutput | Reorder | ActivationScale

__all__ = [
    "ActivationScale",
    "Reorder",
    "Rotate",
    "SmoothAttention",
    "SmoothInput",
    "SmoothOutput",
    "Transform",
]

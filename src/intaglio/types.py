"""Aliases shared by all packages; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

    Tensor: TypeAlias = torch.Tensor

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
State: TypeAlias = Mapping[str, Array]  # what is stored of a coded matrix, by name, as numpy arrays

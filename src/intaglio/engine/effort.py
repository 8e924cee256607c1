"""Effort: what a token costs that attends to many others, in tokens that attend to none.

A step's seconds follow from it, so a step is filled by effort: deep in a long prompt it has fewer tokens.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from intaglio.models import roles
from intaglio.models.architectures import linear_shape
from intaglio.models.spec import ModelSpec

SLOWER = 2.0  # times as long as a matrix's takes a product of attention: bench/attention.py, bench/kernels.py


class Effort(NamedTuple):
    """`reach`: keys that cost as much as all else of a token; `windows`: layers by how far they look back."""

    reach: float = math.inf
    windows: Mapping[int | None, int] = {None: 1}

    def of(self, position: int, tokens: int) -> float:
        """Of `tokens` tokens from `position` on."""
        return tokens * (1 + self._seen(position + tokens / 2) / self.reach)

    def tokens(self, position: int, effort: float, most: int) -> int:
        """How many of `most` tokens from `position` on it takes to spend so much effort."""
        return bisect_left(range(most), effort, key=lambda tokens: self.of(position, tokens))

    def _seen(self, position: float) -> float:
        """Keys that the token there attends to, on the average over the layers."""
        seen = sum(count * _bounded(position, window) for window, count in self.windows.items())
        return seen / sum(self.windows.values())


def effort(spec: ModelSpec) -> Effort:
    """Of a model, by its multiplications."""
    reach = matrix_macs(spec) / (SLOWER * key_macs(spec))
    return Effort(reach, Counter(layer.window for layer in spec.layers))


def matrix_macs(spec: ModelSpec, among: Collection[str] = roles.LINEARS) -> int:
    """Multiply-accumulates of a token with a layer's matrices, or with these among them."""
    return sum(math.prod(linear_shape(spec, role)) for role in among)


def key_macs(spec: ModelSpec) -> int:
    """Multiply-accumulates of a token with a key and its value, in a layer."""
    return 2 * spec.num_heads * spec.head_dim


def _bounded(position: float, window: int | None) -> float:
    return position if window is None else min(position, window)

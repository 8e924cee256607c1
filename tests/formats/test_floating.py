"""Floating: values as they are, in their type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from intaglio.errors import IntaglioError
from intaglio.formats import Floating


def test_bfloat16_is_stored_as_ml_dtypes() -> None:
    w = torch.tensor([[1.0, -2.5, 3e38]])
    fmt = Floating("bfloat16")
    state = fmt.pack(fmt.encode(w, {}), {})
    assert state["value"].dtype == ml_dtypes.bfloat16
    assert np.array_equal(state["value"].astype(np.float32), w.bfloat16().float().numpy())
    assert torch.equal(fmt.unpack(state, (1, 3))[0], w.bfloat16())


def test_float32_does_not_share_memory_with_the_weights() -> None:
    w = torch.zeros(2, 2)
    state = Floating("float32").pack(Floating("float32").encode(w, {}), {})
    w[0, 0] = 1
    assert state["value"][0, 0] == 0


def test_a_weight_beyond_float16_is_refused() -> None:
    with pytest.raises(IntaglioError, match=r"1e\+05 does not fit float16: bfloat16"):
        Floating("float16").encode(torch.tensor([[1e5]]), {})

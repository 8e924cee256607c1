"""Matrices that share what reads their input: it is packed and applied once, and the output is the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from intaglio.attention import Half
from intaglio.engine.executor import Executor
from intaglio.engine.matrices import pack
from intaglio.formats import Integer
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded, Dictionary
from tests.engine.shared import coded
from tests.engine.small import A8, ISAS, plain, reference_logits, relative, run_logits

TERMS = [Dictionary(0.2), Dictionary(0.5, rho=16, bits=16)]  # behind a bitmask, and few a row
QKV = tuple(roles.site(0, role) for role in ("q", "k", "v"))


def apart(checkpoint: Checkpoint) -> Checkpoint:
    """The same numbers, each matrix with arrays of its own."""

    def own(one: Coded) -> Coded:
        state = {key: array.copy() for key, array in one.state.items()}
        return dataclasses.replace(one, state=state, shared=None)

    return checkpoint.replace({name: own(one) for name, one in checkpoint.linears.items()})


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", [None, A8], ids=["a16", "a8"])
@pytest.mark.parametrize("term", TERMS, ids=repr)
@pytest.mark.parametrize("members", [tuple(roles.LINEARS), ("k", "v", "gate", "up")], ids=["all", "some"])
def test_a_model_that_shares_is_the_reference(
    members: tuple[str, ...], term: Dictionary, activation: Integer | None, isa: str
) -> None:
    source = plain("llama-biased", gain=0.5)
    checkpoint = source.replace(coded(source, term, activation=activation, members=members))
    limit = 3e-4 if activation is None else 3e-2
    expected = reference_logits(checkpoint, Half())
    assert relative(run_logits(checkpoint, isa), expected).max() <= limit
    assert relative(run_logits(checkpoint, isa, step=2), expected).max() <= limit


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_together_they_give_what_each_gives_alone(term: Dictionary, isa: str) -> None:
    source = plain("llama-biased", gain=0.5)
    checkpoint = source.replace(coded(source, term))
    for step in (64, 1):
        together, each = run_logits(checkpoint, isa, step=step), run_logits(apart(checkpoint), isa, step=step)
        np.testing.assert_array_equal(together, each)


def test_the_plan_has_the_atoms_once() -> None:
    source = plain("llama-biased")
    checkpoint = source.replace(coded(source, TERMS[0]))
    shared, alone = Executor(checkpoint, threads=1), Executor(apart(checkpoint), threads=1)
    lines = [line for line in shared.plan if line.sites[0] == QKV[0]]
    assert [(line.sites, line.part) for line in lines] == [
        (QKV, "0 dictionary.atoms"),
        (QKV, "0 dictionary.codes"),
    ]
    separate = [line for line in alone.plan if line.sites[0] in QKV]
    assert len(separate) == 6
    atoms = [line.nbytes for line in separate if line.part.endswith("atoms")]
    assert atoms == [lines[0].nbytes] * 3
    assert shared.reserved_nbytes < alone.reserved_nbytes


def test_a_dictionary_that_is_not_shared_stays_by_itself() -> None:
    source = plain("llama-biased")
    linears = coded(source, TERMS[0], members=("k", "v")) | coded(source, TERMS[0], members=("q",))
    packed = pack(linears, QKV, ISAS[0], 1)
    assert [one.sites for one in packed] == [QKV[:1], QKV[1:]]
    assert [one.first for one in packed] == [0, 1]

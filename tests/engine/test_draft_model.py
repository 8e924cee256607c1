"""The draft model's memory: what it drafts after any history is what it would draft afresh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.engine.chunk import Chunk
from intaglio.engine.draft_model import DraftModel
from intaglio.engine.executor import Executor
from intaglio.engine.sampling import GREEDY, Sampling
from intaglio.engine.sequence import Sequence
from intaglio.errors import IntaglioError
from intaglio.types import Array
from tests.engine.small import generate, plain, tokens

SETTINGS = [GREEDY, Sampling(temperature=1.0, seed=4, frequency_penalty=0.5)]


def drafter(**limits: int) -> DraftModel:
    checkpoint = plain("llama")
    chosen = {"max_tokens": 32, "max_sequences": 4, "max_context": 150} | limits
    return DraftModel(checkpoint, Executor(checkpoint, threads=1, **chosen))


@pytest.fixture(scope="module")
def fresh() -> DraftModel:
    return drafter()


def afresh(model: DraftModel, sequence: Sequence, count: int) -> list[int]:
    """What a model that knows nothing of the sequence drafts."""
    other = Sequence(sequence.tokens, sequence.sampling, sequence.limit)
    other.prompt_length = sequence.prompt_length
    (drafts,) = model.propose([(other, count)])
    model.drop(other)
    return drafts


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, seed=4)], ids=repr)
def test_it_drafts_what_its_model_says(fresh: DraftModel, sampling: Sampling) -> None:
    """The prompt enters in two steps."""
    prompt = tokens(40).tolist()
    sequence = Sequence(prompt, sampling, 100)
    expected = generate(fresh.executor, prompt, 6, chunk=32, params=sampling)
    assert fresh.propose([(sequence, 6)]) == [expected]
    fresh.drop(sequence)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 3)), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_accepted_and_rejected_drafts_leave_no_trace(
    fresh: DraftModel, rounds: list[tuple[int, int, int]]
) -> None:
    """Rounds of (drafted, accepted, other tokens that came), for two sequences; sometimes nobody is asked."""
    model = drafter()
    sequences = [Sequence(tokens(n, seed=n).tolist(), s, 150) for n, s in zip((3, 60), SETTINGS, strict=True)]
    for drafted, accepted, others in rounds:
        proposed = model.propose([(sequence, drafted) for sequence in sequences])
        assert proposed == [afresh(fresh, sequence, drafted) for sequence in sequences]
        for sequence, drafts in zip(sequences, proposed, strict=True):
            sequence.tokens += drafts[:accepted] + [7, 9, 11][:others]
    for sequence in sequences:
        model.drop(sequence)
    assert model.executor.pool.available == model.executor.pool.count


def test_asking_twice_gives_the_same(fresh: DraftModel) -> None:
    sequence = Sequence([5, 6, 7], GREEDY, 99)
    assert fresh.propose([(sequence, 4)]) == fresh.propose([(sequence, 4)])
    fresh.drop(sequence)


def test_a_text_past_its_context_gets_shorter_drafts_and_none() -> None:
    """Of 100 positions the drafted tokens but the last take one each."""
    model = drafter(max_context=100)
    for length, count in ((90, 8), (97, 4), (100, 1), (101, 0), (140, 0)):
        sequence = Sequence(tokens(length).tolist(), GREEDY, 200)
        assert len(model.propose([(sequence, 8)])[0]) == count
        model.drop(sequence)


def test_memory_goes_from_those_who_wait_to_those_who_ask() -> None:
    """Three pages: the one used longest ago is forgotten, and drafts the same when it is back."""
    model = drafter(pages=3)
    one, two, three = (Sequence(tokens(n, seed=n).tolist(), GREEDY, 150) for n in (20, 30, 70))
    first, second = (model.propose([(sequence, 3)])[0] for sequence in (one, two))
    (third,) = model.propose([(three, 3)])
    assert model.executor.pool.available == 0
    assert third == afresh(drafter(), three, 3)
    assert model.propose([(one, 3), (two, 3)]) == [first, second]
    assert model.propose([(one, 3), (three, 3), (two, 3)])[1] == []  # nobody can be forgotten


def computed(model: DraftModel, wanted: list[tuple[Sequence, int]], monkeypatch: pytest.MonkeyPatch) -> int:
    """Tokens that the draft model computes for this."""
    counts: list[int] = []
    step = model.executor.step

    def counting(batch: list[Chunk]) -> Array:
        counts.append(sum(len(chunk.tokens) for chunk in batch))
        return step(batch)

    with monkeypatch.context() as patched:
        patched.setattr(model.executor, "step", counting)
        model.propose(wanted)
    return sum(counts)


def test_only_what_is_new_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = drafter()
    sequence = Sequence(tokens(20).tolist(), GREEDY, 150)
    assert computed(model, [(sequence, 4)], monkeypatch) == 20 + 3
    sequence.tokens += [*afresh(model, sequence, 4), 7]  # all were right: their last and the 7 are new
    assert computed(model, [(sequence, 4)], monkeypatch) == 2 + 3
    sequence.tokens += [*afresh(model, sequence, 4)[:1], 130]  # one was right
    assert computed(model, [(sequence, 4)], monkeypatch) == 1 + 3


def test_who_was_asked_last_is_remembered_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    model = drafter(pages=3)
    one, two, three = (Sequence(tokens(n, seed=n).tolist(), GREEDY, 150) for n in (20, 30, 70))
    for sequence in (one, two, one):
        model.propose([(sequence, 1)])
    model.propose([(three, 1)])
    assert computed(model, [(one, 1)], monkeypatch) == 1
    assert computed(model, [(two, 1)], monkeypatch) == 30


def test_a_broken_draft_model_is_named() -> None:
    checkpoint = plain("llama")
    broken = replace(
        checkpoint, name="small", vectors={**checkpoint.vectors, "model.norm": np.full(64, np.nan)}
    )
    model = DraftModel(broken, Executor(broken, threads=1, max_sequences=1))
    with pytest.raises(
        IntaglioError, match=r"the draft model small: the logits after position 2 .* not finite"
    ):
        model.propose([(Sequence([1, 2, 3], GREEDY, 9), 2)])

"""A draft model: a smaller one of the same vocabulary guesses what the model will say."""

from __future__ import annotations

from dataclasses import dataclass, field

from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.engine.pages import pages_for
from intaglio.engine.sequence import Sequence
from intaglio.engine.speculative import Wanted
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.tokenizer import Tokenizer


@dataclass
class _Memory:
    """What the draft model has computed of a sequence: its first `agreed` tokens, then guesses of its own."""

    pages: list[int] = field(default_factory=list)
    agreed: int = 0
    guesses: list[int] = field(default_factory=list)

    def catch_up(self, tokens: list[int]) -> None:
        """Guesses that came true are agreed on, the others forgotten."""
        for guess in self.guesses:
            if self.agreed == len(tokens) or tokens[self.agreed] != guess:
                break
            self.agreed += 1
        self.agreed = min(self.agreed, len(tokens) - 1)  # the last is computed again if need be: it draws
        self.guesses = []


@dataclass
class _Job:
    """One sequence's draft in the making."""

    sequence: Sequence
    memory: _Memory
    count: int
    drafts: list[int] = field(default_factory=list)

    def chunk(self, budget: int) -> Chunk:
        """The next tokens to compute; after the last of all one is drawn, as the model itself would."""
        start = self.memory.agreed + len(self.memory.guesses)
        text = [*self.sequence.tokens, *self.drafts]
        part = text[start : start + budget]
        draws = int(start + len(part) == len(text))
        sampling = self.sequence.sampling
        return Chunk(
            part, start, self.memory.pages, draws, sampling, text, prompt=self.sequence.prompt_length
        )

    def computed(self, chunk: Chunk) -> None:
        own = len(self.sequence.tokens) - self.memory.agreed
        self.memory.agreed += min(own, len(chunk.tokens))
        self.memory.guesses += chunk.tokens[max(0, own) :]


class DraftModel:
    """Drafts with an executor of its own, over its own pages, which follow the sequences'.

    It draws with the sequences' settings and seeds: the same random numbers make it say what the model says
    more often than chance would.
    """

    def __init__(self, checkpoint: Checkpoint, executor: Executor) -> None:
        self.checkpoint = checkpoint
        self.executor = executor
        self._memories: dict[Sequence, _Memory] = {}  # the one used longest ago first

    @classmethod
    def beside(cls, executor: Executor, model: Checkpoint, draft: Checkpoint) -> DraftModel:
        """`draft` opened for the sequences of the `executor` that runs `model`."""
        check_vocabulary(model, draft)
        own = Executor(
            draft,
            threads=executor.threads,
            isa=executor.isa,
            max_tokens=executor.max_tokens,
            max_sequences=executor.max_sequences,
            max_context=min(executor.max_context, draft.spec.max_position),
        )
        return cls(draft, own)

    def propose(self, wanted: Wanted) -> list[list[int]]:
        users = {sequence for sequence, count in wanted if count}
        jobs = [self._job(sequence, count, users) for sequence, count in wanted]
        try:
            while unfinished := [job for job in jobs if len(job.drafts) < job.count]:
                self._step(unfinished)
        except IntaglioError as error:
            raise IntaglioError(f"the draft model {self.checkpoint.name}: {error}") from None
        return [job.drafts for job in jobs]

    def drop(self, sequence: Sequence) -> None:
        if memory := self._memories.pop(sequence, None):
            self.executor.pool.free(memory.pages)

    def _job(self, sequence: Sequence, count: int, users: set[Sequence]) -> _Job:
        """`count` becomes what context and pages have room for."""
        if count == 0:
            return _Job(sequence, _Memory(), 0)
        memory = self._memories.pop(sequence, None) or _Memory()
        self._memories[sequence] = memory  # used last
        memory.catch_up(sequence.tokens)
        length = len(sequence.tokens)
        count = max(0, min(count, self.executor.max_context - length + 1))
        if count and not self._make_room(memory, pages_for(length + count - 1), users):
            count = 0
        return _Job(sequence, memory, count)

    def _make_room(self, memory: _Memory, pages: int, users: set[Sequence]) -> bool:
        """Give it so many pages, taking those of sequences that no draft is wanted for now."""
        needed = max(0, pages - len(memory.pages))
        for other in [s for s in self._memories if s not in users]:
            if needed <= self.executor.pool.available:
                break
            self.drop(other)
        if needed > self.executor.pool.available:
            return False
        memory.pages += self.executor.pool.allocate(needed)
        return True

    def _step(self, jobs: list[_Job]) -> None:
        """One step of the draft model: what it lacks of each sequence, at most `max_tokens` together."""
        budget = self.executor.max_tokens
        batch: list[tuple[_Job, Chunk]] = []
        for job in jobs[: self.executor.max_sequences]:
            if budget:
                batch.append((job, job.chunk(budget)))
                budget -= len(batch[-1][1].tokens)
        drawn = iter(self.executor.step([chunk for _, chunk in batch]).tolist())
        for job, chunk in batch:
            job.computed(chunk)
            if chunk.draws:
                job.drafts.append(next(drawn))


def check_vocabulary(model: Checkpoint, draft: Checkpoint) -> None:
    """A draft is made of the model's tokens: both must have the same."""
    sizes = model.spec.vocab_size, draft.spec.vocab_size
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"{draft.name} cannot draft for {model.name}: it has {sizes[1]} tokens, the model {sizes[0]}"
        )
    if "tokenizer.json" in draft.files and "tokenizer.json" in model.files:
        own, other = (Tokenizer.from_files(c.files, c.config).vocabulary for c in (model, draft))
        if own != other:
            token = min((text for text, _ in own.items() ^ other.items()), key=lambda text: own.get(text, -1))
            raise UsageError(
                f"{draft.name} cannot draft for {model.name}: their tokens differ, for instance {token!r} is"
                f" number {other.get(token)} of the one and {own.get(token)} of the other"
            )

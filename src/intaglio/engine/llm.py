"""LLM: a model that continues prompts, many at a time.

LLM("out").generate(["Gravity is", "Light is"], SamplingParams(max_tokens=32))
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from intaglio.engine.draft_model import DraftModel
from intaglio.engine.executor import Executor, count_threads
from intaglio.engine.loop import Loop
from intaglio.engine.output import RequestOutput, SamplingParams
from intaglio.engine.prompt import Prompt, check_prompt, listed
from intaglio.engine.request import Request
from intaglio.engine.sampling import Logprobs, Sampling
from intaglio.engine.scoring import SLICE, PromptEmbedding, PromptScore
from intaglio.engine.sequence import Sequence as Tokens
from intaglio.engine.speculative import Drafter, PromptLookup
from intaglio.errors import IntaglioError, UsageError
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.tokenizer import Tokenizer
from intaglio.types import Array

Work = TypeVar("Work", PromptScore, PromptEmbedding)
Message = Mapping[str, Any]
DEFAULTS = SamplingParams()
MOST_DRAFTED = 64
STEP = 128  # tokens that keep a thread busy; more make a step longer for all, and prompts no faster


class LLM:
    """An opened model.

    `max_context` bounds prompt and answer of one request, `max_sequences` the requests that run at once,
    `max_tokens` one step (None: 128 for each thread, and one for each request), `pages` (of 64 tokens; None:
    enough for all) their memory. `seed`: for requests without one. `draft`: "prompt-lookup", or a smaller
    model of the same vocabulary, guesses up to `max_draft` tokens that one step then checks: faster where
    guesses are right, and token for token the same answers. `prefix_cache`: what prompts begin with in common
    is computed once, and remembered while there is memory. `pin_threads`: see `Executor`.
    """

    def __init__(
        self,
        model: str | Path | Checkpoint,
        *,
        threads: int | None = None,
        kv: str | None = None,
        max_context: int | None = None,
        max_sequences: int = 16,
        max_tokens: int | None = None,
        pages: int | None = None,
        seed: int = 0,
        isa: str | None = None,
        pin_threads: bool = False,
        draft: str | Path | Checkpoint | None = None,
        max_draft: int = 8,
        prefix_cache: bool = True,
    ) -> None:
        if not 1 <= max_draft <= MOST_DRAFTED:
            raise UsageError(f"max_draft is {max_draft}, it must be in 1..{MOST_DRAFTED}")
        self.checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(str(model))
        self.tokenizer = Tokenizer.from_files(self.checkpoint.files, self.checkpoint.config)
        self.executor = Executor(
            self.checkpoint,
            threads=threads,
            kv=kv,
            max_tokens=max_tokens or max(STEP * count_threads(threads), max_sequences),
            max_sequences=max_sequences,
            max_draft=0 if draft is None else max_draft,
            max_context=max_context,
            pages=pages,
            isa=isa,
            pin_threads=pin_threads,
        )
        drafter = None if draft is None else self._drafter(draft)
        self.loop = Loop(self.executor, drafter, prefix_cache=prefix_cache)
        self.scheduler = self.loop.scheduler
        self.seed = seed
        self._numbers = count()

    @property
    def max_context(self) -> int:
        """Tokens of one sequence at most, prompt and answer together."""
        return self.executor.max_context

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] = DEFAULTS,
    ) -> list[RequestOutput]:
        """Continue texts or lists of token ids, all in one batch -> one output a prompt, in their order."""
        many = listed(prompts)
        each = [params] * len(many) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(many):
            raise UsageError(
                f"{len(many)} prompts and {len(each)} sampling parameters: give one, or one for each"
            )
        requests: list[Request] = []
        try:
            for prompt, one in zip(many, each, strict=True):
                requests.append(self.submit(prompt, one))
            while not all(request.finished for request in requests):
                self._advance()
                _check_failed(requests)
        finally:
            for request in requests:
                self.drop(request)
        return [request.output() for request in requests]

    def stream(self, prompt: Prompt, params: SamplingParams = DEFAULTS) -> Generator[str]:
        """The continuation in pieces, as they come; leaving the loop ends the request."""
        return self.follow(self.submit(prompt, params))

    def follow(self, request: Request) -> Generator[str]:
        """The text of a submitted request, in pieces; leaving the loop ends it."""
        try:
            while not request.finished:
                self._advance()
                if piece := request.fresh():
                    yield piece
            _check_failed([request])
            if piece := request.fresh():  # when another loop took the last step
                yield piece
        finally:
            self.drop(request)

    def chat(self, messages: Sequence[Message], params: SamplingParams = DEFAULTS) -> RequestOutput:
        """Answer a conversation: [{"role": "user", "content": "..."}, ...]."""
        return self.generate([self.chat_prompt(messages)], params)[0]

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation in the model's chat template, ready for the answer."""
        return self.encode(self.tokenizer.chat(messages), special=False)

    def submit(
        self, prompt: Prompt, params: SamplingParams, *, priority: int = 0, cache_salt: str | None = None
    ) -> Request:
        """Queue one prompt; `step` brings it forward. The arguments are those of `prepare`."""
        request = self.prepare(prompt, params, priority=priority, cache_salt=cache_salt)
        self.add(request)
        return request

    def prepare(
        self, prompt: Prompt, params: SamplingParams, *, priority: int = 0, cache_salt: str | None = None
    ) -> Request:
        """A request that `add` queues; it may be made in another thread than the one that steps.

        A lower `priority` is served sooner. Only requests of the same `cache_salt` use one another's
        prefixes: nobody else can learn from the time his takes what was asked before.
        """
        text, ids = prompt if isinstance(prompt, str) else None, self._tokens(prompt)
        check_prompt(ids, self.checkpoint.spec.vocab_size, self.max_context, answer=1)
        number = next(self._numbers)
        seed = (self.seed << 32 | number) & (2**63 - 1)
        limit = min(len(ids) + params.max_tokens, self.max_context)
        sampling = self._sampling(params, seed)
        sequence = Tokens(ids, sampling, limit, priority=priority, salt=cache_salt)
        ends = {*params.stop_token_ids} | (set() if params.ignore_eos else set(self.tokenizer.eos_ids))
        vocab = self.checkpoint.spec.vocab_size
        decoder = self.tokenizer.stream(skip_special=params.skip_special_tokens)
        return Request(number, text, sequence, params, decoder, ends, vocab)

    def add(self, request: Request) -> None:
        """Queue it."""
        self.loop.add(request)

    def start_score(self, prompt: Prompt, *, top: int = 0, size: int = SLICE) -> PromptScore:
        """How likely a prompt's tokens are, `size` of them at each of its own steps."""
        return PromptScore(self.executor, self._tokens(prompt), top=top, size=size)

    def start_embedding(self, prompt: Prompt, *, size: int = SLICE) -> PromptEmbedding:
        """The mean of a prompt's last states, from `size` tokens at each of its own steps."""
        return PromptEmbedding(self.executor, self._tokens(prompt), size=size)

    def score(self, prompts: Prompt | Sequence[Prompt], *, top: int = 0) -> list[list[Logprobs]]:
        """Of each prompt's tokens but its first, with the `top` likeliest in their place."""
        started = [self.start_score(prompt, top=top) for prompt in listed(prompts)]
        return [_finished(score).logprobs for score in started]

    def embed(self, prompts: Prompt | Sequence[Prompt]) -> list[Array]:
        """Of each prompt float32 (hidden,): the mean of its tokens' last states after the final norm."""
        largest = self.executor.max_tokens
        started = [self.start_embedding(prompt, size=largest) for prompt in listed(prompts)]
        return [_finished(embedding).vector for embedding in started]

    def step(self) -> bool:
        """One step of the engine: every running request gets tokens, or a chunk of its prompt computed.

        A request that fails alone is finished, with `Request.error`. What is raised here is nobody's fault or
        everybody's: requests are as before the step. False if there was nothing to do.
        """
        return self.loop.step()

    def drop(self, request: Request) -> None:
        """End a request, finished or not: its pages are free."""
        self.loop.drop(request)

    def _advance(self) -> None:
        """A step that somebody waits for."""
        if not self.step() and self.scheduler.busy:
            pool = self.executor.pool
            raise IntaglioError(
                f"{pool.available} of {pool.count} KV pages are free, too few for the request that waits, and"
                " no request runs: close what scores or embeds, or open the model with more pages"
            )

    def _drafter(self, draft: str | Path | Checkpoint) -> Drafter:
        """Named "prompt-lookup", or a model opened beside this one."""
        if draft == "prompt-lookup":
            return PromptLookup()
        checkpoint = draft if isinstance(draft, Checkpoint) else open_checkpoint(str(draft))
        return DraftModel.beside(self.executor, self.checkpoint, checkpoint)

    def _sampling(self, params: SamplingParams, seed: int) -> Sampling:
        sampling, vocab = params.sampling(seed), self.checkpoint.spec.vocab_size
        if outside := [token for token in sampling.logit_bias if token >= vocab]:
            raise UsageError(f"token {outside[0]} of logit_bias is outside the vocabulary of {vocab}")
        return sampling

    def _tokens(self, prompt: Prompt) -> list[int]:
        return self.encode(prompt) if isinstance(prompt, str) else list(prompt)

    def encode(self, prompt: str, *, special: bool = True) -> list[int]:
        """Tokens of a text; `special`: with those the model expects around every text."""
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the prompt is not valid Unicode at character {error.start}") from None
        return self.tokenizer.encode(prompt, special=special)


def _check_failed(requests: Sequence[Request]) -> None:
    for request in requests:
        if request.failure is not None:
            raise request.failure


def _finished(work: Work) -> Work:
    """All its steps, and its pages free whatever happens."""
    try:
        while not work.finished:
            work.step()
    finally:
        work.close()
    return work

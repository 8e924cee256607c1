"""What every request for text has in common: how to draw, when to stop, and how long to wait."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from intaglio.engine.output import SamplingParams
from intaglio.server.bounds import Bounds
from intaglio.server.grammars import Compiled
from intaglio.server.refusal import Refusal
from intaglio.server.settings import Limits
from intaglio.server.structured import Grammar, response_format, structured_outputs

LIMITS = Limits()
BOUNDS = Bounds()
Stop = Annotated[str, StringConstraints(min_length=1, max_length=LIMITS.stop_characters)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Ids = Annotated[list[TokenId], Field(min_length=1)]


class StreamOptions(BaseModel):
    """What a stream carries beside the text."""

    include_usage: bool = False


class Ask(BaseModel):
    """What chat and plain completions share. Fields unknown here are left aside, as other servers do."""

    model: str | None = Field(default=None, max_length=256)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=LIMITS.choices)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    presence_penalty: float | None = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[TokenId, Bias] | None = Field(default=None, max_length=LIMITS.biases)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop | list[Stop] | None = Field(default=None)
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=LIMITS.stops)
    ignore_eos: bool = False
    min_tokens: int = Field(default=0, ge=0, lt=2**31)
    skip_special_tokens: bool = True
    response_format: dict[str, Any] | None = Field(
        default=None,
        description='{"type": text, json_object or json_schema, "json_schema": {"schema"}}',
    )
    structured_outputs: dict[str, Any] | None = Field(
        default=None, description="As vLLM's: one of json, regex, choice, grammar."
    )
    priority: int = Field(default=0, ge=-(2**31), lt=2**31)
    timeout: float | None = Field(
        default=None, gt=0, description="Seconds; the server's own limit if longer."
    )
    cache_salt: str | None = Field(default=None, min_length=1, max_length=256)
    user: str | None = Field(default=None, max_length=512)

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def seconds(self, most: float) -> float:
        """Until its deadline: as asked, but not longer than the server allows."""
        return min(self.timeout or most, most)

    def stops(self) -> tuple[str, ...]:
        """At most so many strings that end the text."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > LIMITS.stops:
            raise Refusal(400, f"stop has {len(given)} strings, at most {LIMITS.stops} may be", param="stop")
        return tuple(given)

    def form(self) -> Grammar | None:
        """The form that the answer must have; None: any."""
        answer = None if self.response_format is None else response_format(self.response_format, BOUNDS)
        if self.structured_outputs is None:
            return answer
        if answer is not None:
            raise Refusal(
                400, "give response_format or structured_outputs, not both", param="structured_outputs"
            )
        return structured_outputs(self.structured_outputs, BOUNDS)

    def params(
        self,
        defaults: SamplingParams,
        max_tokens: int,
        logprobs: int | None,
        choice: int,
        form: Compiled | None,
    ) -> SamplingParams:
        """For one of `n` choices; what is not given is the model's own. Raises UsageError."""

        def own(given: float | None, default: float) -> float:
            return default if given is None else given

        top_k = int(own(self.top_k, defaults.top_k))
        return SamplingParams(
            max_tokens=max_tokens,
            min_tokens=min(self.min_tokens, max_tokens),
            temperature=own(self.temperature, defaults.temperature),
            top_k=max(0, top_k),  # -1 is everything for other servers, 0 here
            top_p=own(self.top_p, defaults.top_p),
            min_p=own(self.min_p, defaults.min_p),
            repetition_penalty=own(self.repetition_penalty, defaults.repetition_penalty),
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=self.logit_bias,
            seed=None if self.seed is None else (self.seed + choice) % 2**63,
            stop=self.stops(),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
            skip_special_tokens=self.skip_special_tokens,
            logprobs=logprobs,
            token_mask=None if form is None else form.mask(),
        )

"""What is asked of a generation, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from intaglio.engine.mask import TokenMask
from intaglio.engine.sampling import MOST_LOGPROBS, Logprobs, Sampling
from intaglio.errors import UsageError

FinishReason = Literal["stop", "length", "abort", "error"]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to draw tokens and when to stop. The default is greedy: temperature 0.

    `stop`: strings that end the text and are not part of it. `seed` None: drawn from the model's seed and the
    number of the request, so that equal prompts differ. `min_tokens`: no end token before so many;
    `logprobs`: log probabilities of the drawn token and of so many likeliest ones, 0 to 20, before all other
    settings. `token_mask` tells which tokens may follow those generated so far: see engine/mask.py.
    `skip_special_tokens`: control tokens are no part of the text.
    """

    max_tokens: int = 128
    min_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    token_mask: TokenMask | None = None
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if not all(stops):
            raise UsageError("an empty stop string would end every text before it begins")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}, it must be at least 1")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise UsageError(
                f"min_tokens is {self.min_tokens}, it must be in 0..{self.max_tokens} (max_tokens)"
            )
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise UsageError(f"logprobs is {self.logprobs}, it must be in 0..{MOST_LOGPROBS}")
        object.__setattr__(self, "stop", stops)
        self.sampling(0)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return tuple(self.stop)

    def sampling(self, seed: int) -> Sampling:
        """The native form; `seed` stands in for one that is not given."""
        shared = [name for name in Sampling.__struct_fields__ if name not in ("seed", "logit_bias")]
        values = {name: getattr(self, name) for name in shared}
        values["seed"] = seed if self.seed is None else self.seed
        values["logit_bias"] = dict(self.logit_bias or {})
        try:
            return msgspec.convert(values, Sampling)
        except msgspec.ValidationError as error:
            raise UsageError(f"sampling: {error}".replace("`$.", "`")) from None


@dataclass(frozen=True)
class CompletionOutput:
    """One text. `token_ids` ends with the token that stopped it; `logprobs`: each token's, if asked for."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    logprobs: tuple[Logprobs, ...] | None = None
    index: int = 0

    @property
    def cumulative_logprob(self) -> float | None:
        return None if self.logprobs is None else sum(one.logprob for one in self.logprobs)


@dataclass(frozen=True)
class Timing:
    """Seconds of one request: `prefill` until its first token, `decode` from there to its last.

    Of `prefill` it waited `queued` for a place. `cached_tokens` of the prompt came from the prefix cache when
    it entered. `steps` gave it tokens; of `drafted` tokens that these checked `accepted` were right.
    """

    prompt_tokens: int
    output_tokens: int
    prefill: float
    decode: float
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    cached_tokens: int = 0
    queued: float = 0.0

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """None before the first token."""
        return self.prompt_tokens / max(self.prefill, 1e-9) if self.output_tokens else None

    @property
    def decode_tokens_per_s(self) -> float | None:
        """None for a single token: it came out of the prefill."""
        return (self.output_tokens - 1) / max(self.decode, 1e-9) if self.output_tokens > 1 else None


@dataclass(frozen=True)
class RequestOutput:
    """What one prompt gave."""

    request_id: int
    prompt: str | None
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    timing: Timing
    finished: bool = True

"""Cost: how many multiplications a workload is, and how many bytes it must read at least."""

from __future__ import annotations

from typing import NamedTuple

from intaglio.benchmark.workloads import ANSWER, PROMPT, STEPS, Workload
from intaglio.engine.effort import key_macs, matrix_macs
from intaglio.models import roles
from intaglio.models.spec import ModelSpec

LARGEST = 512  # tokens that read the weights once, of a prompt


class Cost(NamedTuple):
    """Of one round: multiply-accumulates, and bytes of weights, keys and values."""

    macs: float
    nbytes: float

    @property
    def intensity(self) -> float:
        """MAC per byte."""
        return self.macs / self.nbytes


class Steps(NamedTuple):
    """What a workload comes down to."""

    passes: float  # over the weights
    tokens: int  # through the layers
    drawn: int  # through the head
    seen: float  # tokens of context, summed over the tokens that attend to them
    read: float  # of these, read from memory: tokens of a prompt share what they read


def cost(spec: ModelSpec, workload: Workload, weight_bytes: int, kv_bits: float) -> Cost:
    """`weight_bytes` of all matrices, the head among them; `kv_bits` of one number of a key or value."""
    steps = _steps(workload)
    inside = steps.tokens * matrix_macs(spec) + steps.seen * key_macs(spec)
    unwanted = (steps.tokens - steps.drawn) * matrix_macs(spec, roles.AFTER_ATTENTION)  # of the last layer
    macs = spec.num_layers * inside - unwanted + steps.drawn * spec.vocab_size * spec.hidden_size
    remembered = spec.num_layers * 2 * spec.num_kv_heads * spec.head_dim * kv_bits / 8
    return Cost(macs, steps.passes * weight_bytes + steps.read * remembered)


def _steps(workload: Workload) -> Steps:
    match workload.kind:
        case "prefill":
            return _prompts(workload.size, 1)
        case "decode":
            seen = STEPS * (workload.size - STEPS / 2)
            return Steps(STEPS, STEPS, STEPS, seen, seen)
        case "batch":
            return _batch(workload.size)


def _prompts(length: int, count: int) -> Steps:
    """Every pass reads what it attends to once: its own tokens and those before."""
    passes = max(1.0, length * count / LARGEST)
    return Steps(passes, length * count, count, count * length * length / 2, count * length)


def _batch(streams: int) -> Steps:
    first, more = _prompts(PROMPT, streams), ANSWER - 1
    seen = streams * more * (PROMPT + ANSWER / 2)
    drawn = streams * more
    return Steps(
        first.passes + more, first.tokens + drawn, first.drawn + drawn, first.seen + seen, first.read + seen
    )

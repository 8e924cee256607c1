"""What a draw costs, and what drafts bring.

    python bench/drawing.py                                            # one draw from 49152 random logits
    python bench/drawing.py --model MODEL --draft prompt-lookup,SMALL  # tokens/s with and without drafts

A draw alone allocates its working memory, which a step of the executor does not: its times are upper bounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from intaglio import _native
from intaglio.engine.llm import LLM
from intaglio.engine.output import RequestOutput, SamplingParams

VOCAB = 49152
DRAWS: dict[str, tuple[float, int, float, float, float]] = {  # temperature, top_k, top_p, min_p, repetition
    "greedy": (0.0, 0, 1.0, 0.0, 1.0),
    "greedy, penalised": (0.0, 0, 1.0, 0.0, 1.1),
    "temperature": (1.0, 0, 1.0, 0.0, 1.0),
    "top-k 40": (1.0, 40, 1.0, 0.0, 1.0),
    "top-p 0.95": (1.0, 0, 0.95, 0.0, 1.0),
    "min-p 0.05": (1.0, 0, 1.0, 0.05, 1.0),
}
SETTINGS = {
    "greedy": {},
    "temperature 0.8": {"temperature": 0.8},
    "temperature 0.8, top-p 0.95": {"temperature": 0.8, "top_p": 0.95},
}
PROMPTS = [
    "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n\ndef mul(a, b):\n",
    "Once upon a time there was a",
    "1. apple\n2. banana\n3. cherry\n4.",
    "The sea is",
]


def draw_seconds(name: str, repeats: int = 300) -> float:
    """The median of one draw's processor seconds."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, VOCAB).astype(np.float32)
    history = rng.integers(0, VOCAB, 500).astype(np.int32)
    none = np.empty(0, np.int32), np.empty(0, np.float32)
    times = []
    for position in range(repeats):
        start = time.thread_time()
        _native.sample(logits, *DRAWS[name], 0.0, 0.0, 1, history, 250, position, *none)
        times.append(time.thread_time() - start)
    return float(np.median(times))


def generated(llm: LLM, params: SamplingParams) -> list[RequestOutput]:
    """The prompts one after the other: speculation is for few sequences."""
    return [llm.generate([prompt], params)[0] for prompt in PROMPTS]


def rate(outputs: Sequence[RequestOutput]) -> float:
    """Tokens a second after the first ones."""
    tokens = sum(o.timing.output_tokens - 1 for o in outputs)
    return tokens / sum(o.timing.decode for o in outputs)


def compare(model: str, draft: str, tokens: int, max_draft: int) -> None:
    """One line a setting; the tokens must be the same."""
    plain, drafting = (
        LLM(model, max_sequences=1),
        LLM(model, max_sequences=1, draft=draft, max_draft=max_draft),
    )
    for name, chosen in SETTINGS.items():
        params = SamplingParams(max_tokens=tokens, ignore_eos=True, seed=1, **chosen)
        without, outputs = generated(plain, params), generated(drafting, params)
        assert [o.outputs for o in outputs] == [o.outputs for o in without]
        steps, drafted, accepted = (
            sum(getattr(o.timing, field) for o in outputs) for field in ("steps", "drafted", "accepted")
        )
        print(
            f"{draft:24.24} {name:28} {rate(without):8.1f} -> {rate(outputs):8.1f} tokens/s"
            f"   {steps} steps for {len(PROMPTS) * tokens} tokens, {accepted} of {drafted} drafted right",
            flush=True,
        )


def main() -> None:
    """Measure what was asked and print it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--model")
    ask.add_argument("--draft", default="prompt-lookup")
    ask.add_argument("--tokens", type=int, default=100)
    ask.add_argument("--max-draft", type=int, default=8)
    a = ask.parse_args()
    if a.model is None:
        for name in DRAWS:
            print(f"{name:20} {draw_seconds(name) * 1e6:8.0f} us")
        return
    for draft in a.draft.split(","):
        compare(a.model, draft, a.tokens, a.max_draft)


if __name__ == "__main__":
    main()

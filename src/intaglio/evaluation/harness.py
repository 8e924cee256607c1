"""lm-evaluation-harness runs its tasks on our executor.

    intaglio eval MODEL --tasks arc_easy,my_task --include-path DIR
    lm_eval run --model intaglio --model_args pretrained=MODEL --tasks …
    python -m intaglio.evaluation.harness run --model intaglio --model_args pretrained=MODEL --tasks …

lm-eval 0.4 has no entry points for models: ours exists for it once this module is imported. The second form
needs integrations/lm-eval installed; the third is the same command line without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import model_registry
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.engine.pages import pages_for
from intaglio.errors import UsageError
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array

Pair = tuple[Sequence[int], Sequence[int]]  # context, continuation


class IntaglioLM(TemplateLM):  # type: ignore[misc]
    """A model under lm-eval, through LLM. `pretrained`: what our other verbs call MODEL."""

    def __init__(
        self,
        pretrained: str | Checkpoint,
        threads: int | None = None,
        max_length: int | None = None,
        kv: str | None = None,
        max_sequences: int = 16,
        **unused: Any,  # batch_size, device and the like, which lm-eval passes to every model
    ) -> None:
        super().__init__()
        self.llm = LLM(
            pretrained, threads=threads, kv=kv, max_context=max_length, max_sequences=max_sequences
        )

    @property
    def eot_token_id(self) -> int:
        return self.llm.tokenizer.eos_ids[0]

    @property
    def prefix_token_id(self) -> int:
        return (*self.llm.tokenizer.encode(""), self.eot_token_id)[0]  # what the model expects before a text

    @property
    def max_length(self) -> int:
        return self.llm.max_context

    @property
    def tokenizer_name(self) -> str:
        return self.llm.checkpoint.name

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **unused: Any) -> list[int]:
        return self.llm.tokenizer.encode(string, special=add_special_tokens is not False)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return self.llm.tokenizer.chat(chat_history, generation_prompt=add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return "the model's own" if chat_template and self.llm.tokenizer.has_chat_template else None

    def loglikelihood_rolling(self, requests: Iterable[Any], disable_tqdm: bool = False) -> list[float]:
        return [
            sum(value for value, _ in self._score(self._rolling(request.args[0]))) for request in requests
        ]

    def generate_until(self, requests: Iterable[Any], disable_tqdm: bool = False) -> list[str]:
        asked = [request.args for request in requests]
        wanted = [_params(settings) for _, settings in asked]
        prompts = [self._left(self.tok_encode(text), p) for (text, _), p in zip(asked, wanted, strict=True)]
        return [output.outputs[0].text for output in self.llm.generate(prompts, wanted)]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **unused: Any
    ) -> list[tuple[float, bool]]:
        return self._score([(context, continuation) for _, context, continuation in requests])

    def _score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """Sum of log probabilities of each continuation, and whether greedy decoding gives it.

        In the order of their tokens, so that what neighbours share (a context, the shots of a task) is
        computed once.
        """
        found: dict[int, tuple[float, bool]] = {}
        with Prefix(self.llm.executor) as prefix:
            for index in sorted(range(len(pairs)), key=lambda i: [*pairs[i][0], *pairs[i][1]]):
                context, continuation = pairs[index]
                inputs = [*context, *continuation[:-1]][-self.max_length :]
                found[index] = _continuation(prefix.logits(inputs, len(continuation)), continuation)
        return [found[index] for index in range(len(pairs))]

    def _rolling(self, text: str) -> list[Pair]:
        windows = get_rolling_token_windows(
            self.tok_encode(text, add_special_tokens=False), self.prefix_token_id, self.max_length, 1
        )
        return [make_disjoint_window(window) for window in windows]

    def _left(self, prompt: list[int], params: SamplingParams) -> list[int]:
        """The end of the prompt that leaves room for the answer, as lm-eval truncates."""
        return prompt[-max(self.max_length - params.max_tokens, 1) :]


class Prefix:
    """Scores one sequence after another, keeping the keys and values that it shares with the one before."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._tokens: list[int] = []
        self._pages: list[int] = []

    def __enter__(self) -> Prefix:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.pool.free(self._pages)

    def logits(self, tokens: list[int], wanted: int) -> Array:
        """Those after each of the last `wanted` tokens: float32 (wanted, vocab)."""
        shared = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._tokens, tokens, strict=False))
        )
        start = min(shared, len(tokens) - wanted)
        missing = pages_for(len(tokens)) - len(self._pages)
        self._pages += self._executor.pool.allocate(max(missing, 0))
        self._tokens = tokens
        return self._executor.extend(tokens[start:], start, self._pages)[-wanted:]


def find(tasks: Sequence[str], include_path: str | Path | None) -> TaskManager:
    """lm-eval's index of the tasks. Its own, of thousands of files, is read only if yours lacks one."""
    own = [] if include_path is None else [str(include_path)]
    if own and not Path(own[0]).is_dir():
        raise UsageError(f"{include_path} is no directory of lm-eval tasks")
    for with_defaults in (False, True):
        manager = TaskManager(include_path=own, include_defaults=with_defaults)
        unknown = [task for task in tasks if task not in manager.all_tasks]
        if not unknown:
            return manager
    raise UsageError(
        f"lm-eval knows no task {unknown[0]!r}: name one of its own, or give the directory of yours with"
        " --include-path"
    )


def run(
    checkpoint: Checkpoint, tasks: Sequence[str], manager: TaskManager, threads: int | None
) -> dict[str, dict[str, float]]:
    """Task -> metric -> value, of every task and group asked for."""
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    results = simple_evaluate(
        IntaglioLM(checkpoint, threads=threads),
        tasks=list(tasks),
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=False,
    )
    assert results is not None
    return {task: _numbers(values) for task, values in results["results"].items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """`acc,none` -> `acc`; what is no number (aliases, missing errors) is left out."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "sample_len"
    }


def _continuation(logits: Array, continuation: Sequence[int]) -> tuple[float, bool]:
    """`logits` predict `continuation`, row by row."""
    targets = np.asarray(continuation)
    return -float(score.nll(logits, targets).sum()), bool((logits.argmax(-1) == targets).all())


def _params(settings: Mapping[str, Any]) -> SamplingParams:
    """lm-eval's generation settings; unknown ones are left out, as its other models do."""
    known = normalize_gen_kwargs(dict(settings))
    names = ("top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return SamplingParams(
        max_tokens=known["max_gen_toks"],
        temperature=known.get("temperature", 0.0),
        stop=[stop for stop in known["until"] if stop],
        **{name: known[name] for name in names if known.get(name) is not None},
    )


# by name, not by class, for this module may be __main__
model_registry.register("intaglio", target="intaglio.evaluation.harness:IntaglioLM")

if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()

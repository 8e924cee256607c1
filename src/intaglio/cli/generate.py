"""`intaglio generate`: continue a prompt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli import options
from intaglio.cli.drawing import drawing, sampling_params

if TYPE_CHECKING:
    from intaglio.engine.llm import LLM
    from intaglio.engine.output import SamplingParams, Timing


@drawing()
def command(
    model: options.Model,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads it from stdin.")
    ],
    drawing: dict[str, Any],
    seed: Annotated[int, typer.Option(min=0, help="Of the draws: the same seed gives the same text.")] = 0,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on where the model would end.")
    ] = False,
    logprobs: Annotated[
        int | None,
        typer.Option(
            min=0, max=20, help="With --json: log probabilities of the tokens and so many likeliest."
        ),
    ] = None,
    kv: options.KV = None,
    max_context: options.MaxContext = None,
    draft: options.Draft = None,
    max_draft: options.MaxDraft = 8,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.cli import console
    from intaglio.engine.llm import LLM

    params = sampling_params(drawing, seed=seed, ignore_eos=ignore_eos, logprobs=logprobs)
    text = read_stdin() if prompt == "-" else prompt
    llm = LLM(model, threads=threads, kv=kv, max_context=max_context, draft=draft, max_draft=max_draft)
    if json:
        console.print_json(_record(llm, text, params))
        return
    request = llm.submit(text, params)
    for piece in llm.follow(request):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    if not quiet:
        console.note(statistics(request.timing))


def read_stdin() -> str:
    """All of stdin; one newline at its end belongs to the shell."""
    return sys.stdin.read().removesuffix("\n")


def statistics(timing: Timing) -> str:
    """One line: how much and how fast."""
    prompt = _counted(timing.prompt_tokens, timing.prefill_tokens_per_s)
    answer = _counted(timing.output_tokens, timing.decode_tokens_per_s)
    drafts = f" · {timing.accepted} of {timing.drafted} guesses right" if timing.drafted else ""
    return f"[prompt {prompt} · answer {answer}{drafts}]"


def _counted(tokens: int, rate: float | None) -> str:
    return f"{tokens} tokens" if rate is None else f"{tokens} tokens, {rate:.1f} tokens/s"


def _record(llm: LLM, text: str, params: SamplingParams) -> dict[str, object]:
    output = llm.generate([text], params)[0]
    answer, timing = output.outputs[0], output.timing
    return {
        "model": llm.checkpoint.name,
        "prompt": text,
        "text": answer.text,
        "token_ids": answer.token_ids,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "prompt_tokens": timing.prompt_tokens,
        "output_tokens": timing.output_tokens,
        "prefill_tokens_per_s": timing.prefill_tokens_per_s,
        "decode_tokens_per_s": timing.decode_tokens_per_s,
        "steps": timing.steps,
        "drafted": timing.drafted,
        "accepted": timing.accepted,
        "logprobs": None if answer.logprobs is None else [one._asdict() for one in answer.logprobs],
    }

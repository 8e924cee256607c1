"""`intaglio generate`: continue a prompt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli import options

if TYPE_CHECKING:
    from intaglio.engine.llm import LLM
    from intaglio.engine.output import SamplingParams, Timing


def command(
    model: options.Model,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads it from stdin.")
    ],
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws: the same seed gives the same text.")] = 0,
    stop: options.Stop = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on where the model would end.")
    ] = False,
    kv: options.KV = None,
    max_context: options.MaxContext = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.cli import console
    from intaglio.engine.llm import LLM
    from intaglio.engine.output import SamplingParams

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop or (),
        ignore_eos=ignore_eos,
    )
    text = read_stdin() if prompt == "-" else prompt
    llm = LLM(model, threads=threads, kv=kv, max_context=max_context)
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
    return f"[prompt {prompt} · answer {_counted(timing.output_tokens, timing.decode_tokens_per_s)}]"


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
    }

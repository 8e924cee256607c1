"""`intaglio chat`: talk to a model."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from intaglio.cli import options


def command(
    model: options.Model,
    system: Annotated[
        str | None, typer.Option(help="What the model is told before the conversation.")
    ] = None,
    max_tokens: options.MaxTokens = 512,
    temperature: options.Temperature = 0.7,
    top_k: options.TopK = 0,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31, help="Of the draws.", show_default="random")
    ] = None,
    stop: options.Stop = None,
    kv: options.KV = None,
    max_context: options.MaxContext = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.cli.conversation import Conversation
    from intaglio.engine.llm import LLM
    from intaglio.engine.output import SamplingParams

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop or (),
    )
    seed = secrets.randbelow(2**31) if seed is None else seed
    llm = LLM(model, threads=threads, kv=kv, max_context=max_context, max_sequences=1, seed=seed)
    Conversation(llm, params, system, quiet=quiet).run()

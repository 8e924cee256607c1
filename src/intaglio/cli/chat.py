"""`intaglio chat`: talk to a model."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer

from intaglio.cli import options
from intaglio.cli.drawing import drawing, sampling_params


@drawing(max_tokens=512, temperature=0.7, top_p=0.95)
def command(
    model: options.Model,
    drawing: dict[str, Any],
    system: Annotated[
        str | None, typer.Option(help="What the model is told before the conversation.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31, help="Of the draws.", show_default="random")
    ] = None,
    kv: options.KV = None,
    max_context: options.MaxContext = None,
    draft: options.Draft = None,
    max_draft: options.MaxDraft = 8,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    from intaglio.cli.conversation import Conversation
    from intaglio.engine.llm import LLM

    params = sampling_params(drawing)
    seed = secrets.randbelow(2**31) if seed is None else seed
    llm = LLM(
        model,
        threads=threads,
        kv=kv,
        max_context=max_context,
        max_sequences=1,
        seed=seed,
        draft=draft,
        max_draft=max_draft,
    )
    Conversation(llm, params, system, quiet=quiet).run()

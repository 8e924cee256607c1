"""The engines of one replica, behind the application that `intaglio serve` runs."""

from __future__ import annotations

import secrets

from starlette.types import ASGIApp

from intaglio.engine.executor import pages_within
from intaglio.engine.llm import LLM
from intaglio.models import open_checkpoint
from intaglio.serve_ray.arguments import Arguments
from intaglio.server import logs
from intaglio.server.settings import Settings
from intaglio.server.start import serve
from intaglio.server.traces import tracing

TOKENS = 512  # in one step: long prompts come in such pieces


def assemble(arguments: Arguments, threads: int) -> ASGIApp:
    """Opens the models; clients and their keys are the ingress's affair."""
    logs.configure(arguments.log_format)
    named = zip(arguments.names, arguments.model, strict=True)
    llms = {name: _open(model, arguments, threads) for name, model in named}
    tracer = tracing(arguments.otlp_traces_endpoint)
    return serve(llms, Settings(host="0.0.0.0", page=False), tracer).app


def _open(model: str, arguments: Arguments, threads: int) -> LLM:
    checkpoint = open_checkpoint(model)
    memory = arguments.kv_cache_memory
    share = None if memory is None else memory // len(arguments.model)
    return LLM(
        checkpoint,
        threads=threads,
        kv=arguments.kv,
        max_context=arguments.max_model_len,
        max_sequences=arguments.max_num_seqs,
        max_tokens=max(TOKENS, arguments.max_num_seqs),
        pages=None if share is None else pages_within(checkpoint, arguments.kv, share),
        seed=secrets.randbelow(2**31),
        prefix_cache=True,
    )

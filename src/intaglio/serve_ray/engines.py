"""The engines of one replica, behind the application that `intaglio serve` runs."""

from __future__ import annotations

from starlette.types import ASGIApp

from intaglio.serve_ray.arguments import Arguments
from intaglio.server import logs
from intaglio.server.opening import open_models
from intaglio.server.settings import Settings
from intaglio.server.start import serve
from intaglio.server.traces import tracing


def assemble(arguments: Arguments, threads: int) -> ASGIApp:
    """Opens the models; clients and their keys are the ingress's affair."""
    logs.configure(arguments.log_format)
    llms = open_models(
        dict(zip(arguments.names, arguments.model, strict=True)),
        kv=arguments.kv,
        kv_memory=arguments.kv_cache_memory,
        max_sequences=arguments.max_num_seqs,
        threads=threads,
        max_context=arguments.max_model_len,
    )
    tracer = tracing(arguments.otlp_traces_endpoint)
    return serve(llms, Settings(host="0.0.0.0", page=False), tracer).app

"""`intaglio serve`: an OpenAI-compatible server."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from intaglio.cli import options
from intaglio.errors import UsageError


def command(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="One or several: the page compares two.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0: everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Only who knows one may ask; may be repeated.",
            show_default="INTAGLIO_API_KEY",
        ),
    ] = None,
    served_model_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="For each model.", show_default="the models' own names"),
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            min=2, help="Tokens of prompt and answer together.", show_default="the model's, <= 4096"
        ),
    ] = None,
    kv_cache_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="For keys and values: 2GB.", show_default="enough for all places"),
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(min=1, max=1024, help="Requests in one batch.")] = 32,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option(
            min=16,
            max=8192,
            help="Tokens in one step: long prompts come in such pieces.",
            show_default="128 a thread",
        ),
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; others get 429.")] = 256,
    kv_bits: Annotated[
        str | None, typer.Option(metavar="4|8|16", help="Of keys and values.", show_default="the model's own")
    ] = None,
    prefix_caching: Annotated[
        bool, typer.Option("--prefix-caching/--no-prefix-caching", help="Remember prompts that begin alike.")
    ] = True,
    draft: options.Draft = None,
    max_draft: options.MaxDraft = 8,
    threads: options.Threads = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, help="For requests without one.", show_default="random"),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="That requests have to finish after SIGTERM.")
    ] = 30.0,
    request_timeout: Annotated[
        float, typer.Option(min=0.1, max=86400, help="Seconds a request may take.")
    ] = 3600.0,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Whose pages may ask from a browser.", show_default="none"),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Show a page at /.")] = True,
    log_format: Annotated[str, typer.Option(metavar="text|json", help="Of the log on stderr.")] = "text",
    log_level: Annotated[
        str, typer.Option(metavar="debug|info|warning|error", help="Least to log.")
    ] = "info",
    otlp_traces_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Where OpenTelemetry traces go.", show_default="nowhere")
    ] = None,
) -> None:
    from intaglio.cli import console
    from intaglio.server import logs, traces
    from intaglio.server.opening import KV, open_models
    from intaglio.server.settings import Limits, Settings
    from intaglio.server.start import listen, run, serve, url_of

    codecs = {str(bits): codec for bits, codec in KV.items()}
    if kv_bits is not None and kv_bits not in codecs:
        raise UsageError(f"--kv-bits is {kv_bits!r}, expected {', '.join(codecs)}")
    kv = None if kv_bits is None else codecs[kv_bits]
    memory = None if kv_cache_memory is None else options.size("--kv-cache-memory", kv_cache_memory)
    settings = Settings(
        host=host,
        port=port,
        api_keys=tuple(api_key or filter(None, [os.environ.get("INTAGLIO_API_KEY")])),
        origins=tuple(allowed_origin or ()),
        max_waiting=max_waiting,
        drain_seconds=drain_seconds,
        page=page,
        limits=Limits(seconds=request_timeout),
    )
    socket = listen(settings)  # before models are loaded: a port in use is known at once
    logs.configure(log_format, log_level)
    tracer = traces.tracing(otlp_traces_endpoint)
    names = _names(models, served_model_name)
    llms = open_models(
        dict(zip(names, models, strict=True)),
        kv=kv,
        kv_memory=memory,
        max_sequences=max_num_seqs,
        max_tokens=max_num_batched_tokens,
        seed=seed,
        threads=threads,
        max_context=max_model_len,
        draft=draft,
        max_draft=max_draft,
        prefix_cache=prefix_caching,
    )
    console.note(f"serving {', '.join(names)} at {url_of(socket)}")
    run(serve(llms, settings, tracer), socket)


def _names(models: list[str], given: list[str] | None) -> list[str]:
    """What clients call the models: as given, or the last part of a path."""
    from intaglio.server.opening import name_of

    if given and len(given) != len(models):
        raise UsageError(f"{len(models)} models and {len(given)} --served-model-name: give one for each")
    names = given or [name_of(model) for model in models]
    if len(set(names)) != len(names):
        raise UsageError(f"two models would be called {names[0]!r}: tell them apart by --served-model-name")
    return names

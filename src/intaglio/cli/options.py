"""Arguments and options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A directory, a .gguf file, a hub id, or smollm2-135m.", show_default=False
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Threads to use.", show_default="all cores")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no statistics.")]

# how tokens are drawn
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Tokens to generate at most.")]
Temperature = Annotated[
    float, typer.Option(min=0.0, help="0 takes the likeliest token, 1 draws as the model says.")
]
TopK = Annotated[int, typer.Option(min=0, help="Draw among so many likeliest tokens; 0: all.")]
TopP = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Draw among the likeliest tokens of this total probability.")
]
MinP = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Drop tokens less likely than this share of the likeliest.")
]
RepetitionPenalty = Annotated[
    float, typer.Option(min=0.01, help="Above 1: tokens already used become less likely.")
]
Stop = Annotated[
    list[str] | None, typer.Option("--stop", help="End before this text; may be given several times.")
]

# how the model is opened
KV = Annotated[
    str | None,
    typer.Option("--kv", help="Keys and values as fp32, fp16, int8 or int4.", show_default="the model's own"),
]
MaxContext = Annotated[
    int | None,
    typer.Option(
        "--max-context", min=2, help="Tokens of prompt and answer together.", show_default="the model's own"
    ),
]

"""The options of `intaglio bench-serve`, named as `vllm bench serve` names its own where it has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LONGEST = 1 << 20  # tokens

Url = Annotated[str, typer.Argument(metavar="URL", help="Any server that speaks OpenAI's API.")]
ServedModel = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="What is asked.", show_default="the first it has"),
]
Endpoint = Annotated[str, typer.Option(metavar="PATH", help="Or /v1/chat/completions.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="OPENAI_API_KEY", metavar="KEY", help="Sent as a bearer token.")
]
Header = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Sent with every request; may be given several times."),
]

# when requests are sent
RequestRate = Annotated[
    float, typer.Option(help="Requests a second, sent on time however slow the server is; inf: at once.")
]
Burstiness = Annotated[
    float, typer.Option(help="1 is a Poisson process; below it requests come in bursts, above more evenly.")
]
MaxConcurrency = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Requests under way at once. With --request-rate inf: so many users, each of whom sends the next"
        " when the last has ended.",
        show_default="no limit",
    ),
]
Warmup = Annotated[int, typer.Option(min=0, help="Requests before those measured.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds until a request that has not ended fails.")]

# what is sent
NumPrompts = Annotated[
    int | None,
    typer.Option(min=1, max=1 << 20, help="Requests to send.", show_default="100, or all of --dataset"),
]
InputLen = Annotated[
    int | None,
    typer.Option("--random-input-len", min=1, max=LONGEST, help="Tokens of a prompt.", show_default="512"),
]
OutputLen = Annotated[
    int | None,
    typer.Option(
        "--random-output-len", min=1, max=LONGEST, help="Tokens of an answer, at most.", show_default="128"
    ),
]
RangeRatio = Annotated[
    float,
    typer.Option("--random-range-ratio", min=0, max=0.999, help="Lengths differ by up to this share."),
]
PrefixLen = Annotated[
    int, typer.Option(min=0, max=LONGEST, help="Tokens before the prompt's own that requests share.")
]
NumPrefixes = Annotated[int, typer.Option(min=1, max=1 << 16, help="How many such beginnings there are.")]
Mix = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:INPUT/OUTPUT:SHARE,...",
        help="Requests of several lengths, each reported apart: short:64/64:0.9,long:4096/64:0.1.",
    ),
]
DatasetFile = Annotated[
    Path | None,
    typer.Option(
        "--dataset",
        metavar="FILE",
        help='Prompts: .txt, one a line; .jsonl with "prompt" or "messages", perhaps "max_tokens", "part".',
    ),
]
TokenIds = Annotated[
    bool, typer.Option("--token-ids", help="Send lists of tokens: exact lengths, nothing to tokenize.")
]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Ask for answers of full length.")]
ExtraBody = Annotated[str, typer.Option(metavar="JSON", help='More for every request: {"temperature": 0}.')]
Seed = Annotated[int, typer.Option(help="Of prompts, lengths and arrivals.")]

# what is reported
Goodput = Annotated[
    list[str] | None,
    typer.Option(
        metavar='"NAME:MS ..."',
        help="Count requests that keep all of these: milliseconds of ttft, tpot, itl (the longest) or e2e.",
    ),
]
Save = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write every request to it, one JSON object a line.")
]

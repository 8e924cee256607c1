"""The options of how tokens are drawn and when to stop, the same for every verb that generates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.errors import UsageError

if TYPE_CHECKING:
    from intaglio.engine.output import SamplingParams

# name -> (its option, its default)
OPTIONS: dict[str, tuple[Any, Any]] = {
    "max_tokens": (
        Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Tokens to generate at most.")],
        128,
    ),
    "min_tokens": (Annotated[int, typer.Option(min=0, help="Do not end before so many tokens.")], 0),
    "temperature": (
        Annotated[
            float, typer.Option(min=0.0, help="0 takes the likeliest token, 1 draws as the model says.")
        ],
        0.0,
    ),
    "top_k": (Annotated[int, typer.Option(min=0, help="Draw among so many likeliest tokens; 0: all.")], 0),
    "top_p": (
        Annotated[
            float,
            typer.Option(min=0.0, max=1.0, help="Draw among the likeliest tokens of this total probability."),
        ],
        1.0,
    ),
    "min_p": (
        Annotated[
            float,
            typer.Option(min=0.0, max=1.0, help="Drop tokens less likely than this share of the likeliest."),
        ],
        0.0,
    ),
    "repetition_penalty": (
        Annotated[float, typer.Option(min=0.01, help="Above 1: tokens already used become less likely.")],
        1.0,
    ),
    "presence_penalty": (
        Annotated[
            float, typer.Option(min=-2.0, max=2.0, help="Off the logit of each token the answer has used.")
        ],
        0.0,
    ),
    "frequency_penalty": (
        Annotated[float, typer.Option(min=-2.0, max=2.0, help="The same, for each time it was used.")],
        0.0,
    ),
    "logit_bias": (
        Annotated[
            list[str] | None,
            typer.Option(
                metavar="ID=BIAS", help="Add to a token's logit, -100 to 100; may be given several times."
            ),
        ],
        None,
    ),
    "stop": (
        Annotated[
            list[str] | None,
            typer.Option("--stop", help="End before this text; may be given several times."),
        ],
        None,
    ),
}


def drawing(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command all of OPTIONS, some with other defaults; it gets their values as `drawing`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in OPTIONS}
            command(**given, drawing=values)

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            parameters += _options(defaults) if own.name == "drawing" else [_named(own)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        return run

    return decorate


def sampling_params(drawing: Mapping[str, Any], **more: Any) -> SamplingParams:
    """What these options ask for."""
    from intaglio.engine.output import SamplingParams

    bias = dict(map(_bias, drawing["logit_bias"] or ()))
    return SamplingParams(**{**drawing, "stop": drawing["stop"] or (), "logit_bias": bias}, **more)


def _options(defaults: Mapping[str, Any]) -> Sequence[inspect.Parameter]:
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, default), annotation=option
        )
        for name, (option, default) in OPTIONS.items()
    ]


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise UsageError(
            f"--logit-bias {text}: expected a token's number and a bias, as in 50=-1.5"
        ) from None

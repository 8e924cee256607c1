"""`intaglio bench-serve`: what the users of a server would wait for, under a load that keeps its schedule."""

from __future__ import annotations

import json as standard_json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from intaglio.cli import load_options as load
from intaglio.cli import options
from intaglio.errors import IntaglioError, MissingExtra, UsageError

if TYPE_CHECKING:
    from intaglio.load.mix import Part
    from intaglio.load.record import Record
    from intaglio.load.request import Request
    from intaglio.load.result import Result

COUNT, INPUT, OUTPUT = 100, 512, 128  # prompts, tokens of each and of its answer, unless asked otherwise


def command(
    url: load.Url = "http://127.0.0.1:8000",
    model: load.ServedModel = None,
    endpoint: load.Endpoint = "/v1/completions",
    num_prompts: load.NumPrompts = None,
    request_rate: load.RequestRate = math.inf,
    burstiness: load.Burstiness = 1.0,
    max_concurrency: load.MaxConcurrency = None,
    input_len: load.InputLen = None,
    output_len: load.OutputLen = None,
    range_ratio: load.RangeRatio = 0.0,
    prefix_len: load.PrefixLen = 0,
    num_prefixes: load.NumPrefixes = 1,
    mix: load.Mix = None,
    dataset: load.DatasetFile = None,
    token_ids: load.TokenIds = False,
    ignore_eos: load.IgnoreEos = False,
    extra_body: load.ExtraBody = "{}",
    header: load.Header = None,
    api_key: load.ApiKey = None,
    warmup: load.Warmup = 1,
    timeout: load.Timeout = 600.0,
    goodput: load.Goodput = None,
    seed: load.Seed = 0,
    save: load.Save = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    _need_h11()
    from intaglio.load.dataset import Dataset
    from intaglio.load.objectives import objectives
    from intaglio.load.pace import Pace
    from intaglio.load.request import Request
    from intaglio.load.synthetic import Synthetic
    from intaglio.load.target import target

    options.check_parent("--save", save)
    _check_positive("--request-rate", request_rate)
    _check_positive("--burstiness", burstiness)
    where = target(url, endpoint)
    _check_needs("--token-ids", token_ids, "--endpoint /v1/completions", not where.chat)
    _check_needs("--num-prefixes", num_prefixes > 1, "--prefix-len", prefix_len)
    _check_needs("--burstiness", burstiness != 1, "--request-rate", math.isfinite(request_rate))
    prompts: Dataset | Synthetic
    if dataset is not None:
        lengths = {"--random-input-len": input_len, "--random-range-ratio": range_ratio}
        others = {"--mix": mix, "--prefix-len": prefix_len, "--token-ids": token_ids}
        _check_alone(f"--dataset {dataset}", lengths | others)
        prompts = Dataset(dataset, output_len or OUTPUT, num_prompts)
    else:
        parts = _parts(mix, input_len, output_len)
        prompts = Synthetic(parts, num_prompts or COUNT, range_ratio, prefix_len, num_prefixes, token_ids)
    request = Request(
        target=where,
        model=model,
        headers=_headers(header or [], api_key),
        prompts=prompts,
        pace=Pace(request_rate, burstiness, max_concurrency),
        ignore_eos=ignore_eos,
        extra=_object(extra_body),
        warmup=warmup,
        timeout=timeout,
        objectives=objectives(goodput or []),
        seed=seed,
    )
    _run(request, save, json, quiet)


def _need_h11() -> None:
    try:
        import h11  # noqa: F401
    except ImportError:
        raise MissingExtra("h11", "load") from None


def _run(request: Request, save: Path | None, json: bool, quiet: bool) -> None:
    import asyncio

    from intaglio.cli import console
    from intaglio.load.run import measure
    from intaglio.load.trouble import all_failed

    with console.progress(quiet=quiet) as progress:
        result, records = asyncio.run(measure(request, progress))
    if save is not None:
        _save(save, records)
    if not result.interrupted and (failed := all_failed(request.target, records)):
        raise IntaglioError(failed)
    if json:
        console.print_json(result)
    else:
        _show(result, records)
    for line in [] if quiet else result.notes:
        console.note(line)
    if result.interrupted:
        console.note(f"interrupted: {len(records)} requests had ended, {result.unfinished} were under way")
        raise typer.Exit(130)


def _show(result: Result, records: Sequence[Record]) -> None:
    from intaglio.cli import console
    from intaglio.load.table import tables

    for table in tables(result, records):
        console.show(table)


def _save(path: Path, records: Sequence[Record]) -> None:
    import msgspec

    path.write_bytes(msgspec.json.Encoder().encode_lines(records))


def _parts(mix: str | None, input_len: int | None, output_len: int | None) -> tuple[Part, ...]:
    from intaglio.load import mix as mixes

    if mix is None:
        return (mixes.Part("all", input_len or INPUT, output_len or OUTPUT),)
    _check_alone(f"--mix {mix}", {"--random-input-len": input_len, "--random-output-len": output_len})
    return mixes.mix(mix)


def _check_alone(option: str, others: dict[str, Any]) -> None:
    if given := [name for name, value in others.items() if value]:
        raise UsageError(f"{option} says itself what is sent; leave out {', '.join(given)}")


def _check_needs(option: str, given: object, needed: str, there: object) -> None:
    if given and not there:
        raise UsageError(f"{option} needs {needed}")


def _headers(given: Sequence[str], api_key: str | None) -> dict[str, str]:
    """Names and values of `KEY=VALUE`, after the key as OpenAI's API wants it."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--header {name}: expected KEY=VALUE")
        headers[name.strip().lower()] = value.strip()
    return headers


def _object(text: str) -> dict[str, Any]:
    try:
        found = standard_json.loads(text)
    except ValueError as error:
        raise UsageError(f"--extra-body: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f'--extra-body {text}: expected an object, as in {{"temperature": 0}}')
    return found


def _check_positive(option: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"{option} {value}: expected more than 0")

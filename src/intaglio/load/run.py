"""Run: find the server, make the requests, send them, say what was measured."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from contextlib import closing
from time import monotonic, process_time

import msgspec

from intaglio.errors import IntaglioError, UsageError
from intaglio.load.ask import Ask, Form
from intaglio.load.dataset import Dataset
from intaglio.load.drive import Drive
from intaglio.load.environment import environment
from intaglio.load.failure import Failure
from intaglio.load.mix import Part
from intaglio.load.notes import notes
from intaglio.load.pace import Pace
from intaglio.load.record import Record
from intaglio.load.request import Request
from intaglio.load.result import Client, Result, concurrency, lateness, parted
from intaglio.load.server import Server
from intaglio.load.statistics import statistics
from intaglio.load.synthetic import Synthetic
from intaglio.load.trouble import sentence
from intaglio.load.vocabulary import Vocabulary, counted, tokenizer

Progress = Callable[[str, int, int], None]
WARMING = (Part("warm-up", 32, 16),)  # where the prompts come from a file
FILES = 64  # open at once beside the connections


async def measure(request: Request, progress: Progress) -> tuple[Result, list[Record]]:
    """Everything, and request by request. Cancelled (Ctrl-C) while it sends: what there was until then.

    Raises IntaglioError: no server answers, or it answers nothing that could be measured.
    """
    with closing(Server(request.target, request.headers)) as server:
        form = await _form(server, request)
        asks, warming = await _asks(server, request, form)
        _allow_files(min(len(asks), request.pace.concurrency or len(asks)))
        await _warm(server, request, warming, progress)
        return await _measured(server, request, form, asks, progress)


async def _form(server: Server, request: Request) -> Form:
    model = request.model or await _first_model(server)
    return Form(model, request.target.chat, request.ignore_eos, request.extra)


async def _first_model(server: Server) -> str:
    path = f"{server.target.version}/models"
    try:
        return msgspec.convert(await server.get(path), _Models).data[0].id
    except Failure as failure:
        raise IntaglioError(sentence(server.target, path, failure)) from None
    except (msgspec.ValidationError, IndexError):
        raise IntaglioError(
            f"{server.target.url}{path}: no model is listed there; name one with --model"
        ) from None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def _asks(server: Server, request: Request, form: Form) -> tuple[list[Ask], list[Ask]]:
    """Those to be measured, and those before them."""
    prompts, seed = request.prompts, str(request.seed)
    if isinstance(prompts, Dataset):
        warming = Synthetic(WARMING, request.warmup)
        return prompts.asks(form), warming.asks(Vocabulary(), form, f"{seed}:warm-up")
    vocabulary = await _vocabulary(server, form.model, prompts.as_ids)
    warming = prompts.warming(request.warmup)
    return prompts.asks(vocabulary, form, seed), warming.asks(vocabulary, form, f"{seed}:warm-up")


async def _vocabulary(server: Server, model: str, as_ids: bool) -> Vocabulary:
    """Counted by the server where it can, else a token a word."""
    try:
        tokenize = await tokenizer(server, model)
        vocabulary = Vocabulary() if tokenize is None else await counted(tokenize)
    except Failure as failure:
        raise IntaglioError(sentence(server.target, "/tokenize", failure)) from None
    if as_ids and not vocabulary.ids:
        raise UsageError(
            f"--token-ids: {server.target.url} has no /tokenize that would say which tokens there are;"
            " leave it out to send words"
        )
    return vocabulary


def _allow_files(connections: int) -> None:
    """A connection is an open file; of those allowed, a shell grants a part."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES
    if granted != resource.RLIM_INFINITY and granted < wanted:
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


async def _warm(server: Server, request: Request, asks: Sequence[Ask], progress: Progress) -> None:
    """Raises IntaglioError: nothing of it was answered, so neither would be what follows."""
    drive = Drive(server, request.timeout, lambda one: progress("warming up", len(one.records), len(asks)))
    await drive.run(asks, Pace(concurrency=request.pace.concurrency), "")
    failed = [one for one in drive.records if one.error is not None]
    if failed and len(failed) == len(asks):
        failure = Failure(failed[0].error or "", failed[0].detail)
        raise IntaglioError(sentence(request.target, request.target.endpoint, failure))


async def _measured(
    server: Server, request: Request, form: Form, asks: Sequence[Ask], progress: Progress
) -> tuple[Result, list[Record]]:
    around = await environment(server)
    drive = Drive(server, request.timeout, lambda one: progress(_state(one), len(one.records), len(asks)))
    busy, interrupted = process_time(), False
    try:
        await drive.run(asks, request.pace, str(request.seed))
    except asyncio.CancelledError:
        interrupted = True
    seconds, records = monotonic() - drive.start, drive.records
    client = Client((process_time() - busy) / seconds, lateness(records))
    result = Result(
        url=request.target.url,
        endpoint=request.target.endpoint,
        model=form.model,
        duration_s=seconds,
        interrupted=interrupted,
        unfinished=drive.unfinished,
        concurrency=concurrency(records, seconds),
        overall=statistics(records, seconds, request.objectives),
        parts=parted(_parts(request, asks), records, seconds, request.objectives),
        client=client,
        settings=request.settings(),
        environment=around,
        notes=notes(records, client, request.pace),
    )
    return result, records


def _parts(request: Request, asks: Sequence[Ask]) -> list[str]:
    """In the order they were given in."""
    prompts = request.prompts
    parts = [part.name for part in prompts.parts] if isinstance(prompts, Synthetic) else []
    return parts or list(dict.fromkeys(ask.part for ask in asks))


def _state(drive: Drive) -> str:
    failed = sum(one.error is not None for one in drive.records)
    return f"{drive.running} under way" + (f", {failed} failed" if failed else "")

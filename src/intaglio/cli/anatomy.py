"""Anatomy: the parts of a checkpoint, counted. `intaglio inspect` shows it."""

from __future__ import annotations

from typing import Any

import msgspec

from intaglio.models import artifact, roles, scheme
from intaglio.models.checkpoint import Checkpoint

ORDER = (roles.EMBEDDING, roles.EMBED_PROJ, *roles.LINEARS, roles.HEAD_PROJ, roles.HEAD)


class Linear(msgspec.Struct, frozen=True):
    """One matrix. `error`: what compression measured of it, as a share of its output's power."""

    name: str
    role: str
    shape: tuple[int, int]
    weights: str
    bits_per_weight: float
    bytes: int
    error: float | None


class Group(msgspec.Struct, frozen=True):
    """Matrices of one role that are stored alike."""

    role: str
    count: int
    shape: tuple[int, int]
    weights: str
    bits_per_weight: float
    bytes: int


class Anatomy(msgspec.Struct, frozen=True):
    """A model. `checksums`: what was verified when it was opened. `opened_bytes` differ from `bytes` where a
    file's own coding was decoded (GGUF).
    """

    model: str
    kind: str
    architecture: str
    layers: int
    hidden_size: int
    vocab_size: int
    parameters: int
    bytes: int
    opened_bytes: int
    bits_per_weight: float
    cache: str | None
    recipe: str | None
    checksums: str | None
    groups: list[Group]
    linears: list[Linear]
    report: dict[str, Any] | None


def dissect(checkpoint: Checkpoint) -> Anatomy:
    """Reads every matrix once, one at a time."""
    ours = artifact.is_artifact(checkpoint.config)
    report = _report(checkpoint)
    errors = _errors(checkpoint)
    linears = [_linear(checkpoint, name, errors.get(name)) for name in checkpoint.linears]
    parameters = scheme.parameters(checkpoint)
    quantization = artifact.quantization(checkpoint.config)
    return Anatomy(
        model=checkpoint.name,
        kind="Intaglio artifact" if ours else "plain model",
        architecture=checkpoint.spec.architecture,
        layers=checkpoint.spec.num_layers,
        hidden_size=checkpoint.spec.hidden_size,
        vocab_size=checkpoint.spec.vocab_size,
        parameters=parameters,
        bytes=checkpoint.nbytes,
        opened_bytes=sum(one.bytes for one in linears) + sum(v.nbytes for v in checkpoint.vectors.values()),
        bits_per_weight=scheme.bits_per_weight(checkpoint, parameters),
        cache=_cache(quantization.get("cache")) if ours else None,
        recipe=str(quantization.get("recipe")) if ours else None,
        checksums="all files verified" if ours else None,
        groups=_groups(linears),
        linears=linears,
        report=report,
    )


def _linear(checkpoint: Checkpoint, name: str, error: float | None) -> Linear:
    coded = checkpoint.linears[name]
    bits = 8 * coded.nbytes / (coded.shape[0] * coded.shape[1])
    return Linear(name, _role(name), coded.shape, scheme.of(coded), bits, coded.nbytes, error)


def _role(name: str) -> str:
    """`q`, `down`; outside the layers the name itself."""
    inside = {short: role for role, short in roles.LINEARS.items()}
    return next((role for short, role in inside.items() if name.endswith(f".{short}")), name)


def _groups(linears: list[Linear]) -> list[Group]:
    found: dict[tuple[str, tuple[int, int], str], list[Linear]] = {}
    for one in linears:
        found.setdefault((one.role, one.shape, one.weights), []).append(one)
    groups = []
    for (role, shape, weights), members in sorted(found.items(), key=lambda item: ORDER.index(item[0][0])):
        stored = sum(one.bytes for one in members)
        bits = 8 * stored / (shape[0] * shape[1] * len(members))
        groups.append(Group(role, len(members), shape, weights, bits, stored))
    return groups


def _cache(cache: Any) -> str:
    bits = cache.get("bits", 16) if isinstance(cache, dict) else 16
    return f"keys and values {scheme.KV.get(bits, f'{bits} bits')}"


class _Site(msgspec.Struct):
    name: str
    error: float


class _Sites(msgspec.Struct):
    sites: list[_Site] = []


def _errors(checkpoint: Checkpoint) -> dict[str, float]:
    """Matrix -> its error, from a report that says so as ours do."""
    try:
        found = msgspec.json.decode(checkpoint.files.get(artifact.REPORT, b"{}"), type=_Sites)
    except msgspec.DecodeError:
        return {}
    return {site.name: site.error for site in found.sites}


def _report(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What compression wrote down, if it is readable."""
    text = checkpoint.files.get(artifact.REPORT)
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return None

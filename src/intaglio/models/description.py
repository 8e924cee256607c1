"""What a model is made of, for `intaglio inspect`: every matrix with its terms, its bits and its error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from intaglio.models import artifact, json_text
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded, Term


class SiteDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One matrix; `error` is what the run that made it reported."""

    name: str
    shape: tuple[int, int]
    terms: tuple[str, ...]
    activation: str | None
    bias: bool
    nbytes: int
    bits_per_weight: float
    error: float | None


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A whole model. `recipe` is None for a plain one."""

    name: str
    architecture: str
    layers: int
    parameters: int
    nbytes: int
    bits_per_weight: float
    recipe: str | None
    cache: Mapping[str, Any]
    fingerprint: str
    sites: tuple[SiteDescription, ...]

    def worst(self, count: int) -> tuple[SiteDescription, ...]:
        """The matrices with the largest errors, the worst first."""
        known = [site for site in self.sites if site.error is not None]
        return tuple(sorted(known, key=lambda site: -(site.error or 0.0))[:count])


def describe(checkpoint: Checkpoint) -> Description:
    """Reads the matrices one after another, not all at once."""
    errors = _errors(checkpoint)
    sites = tuple(_site(name, coded, errors.get(name)) for name, coded in checkpoint.linears.items())
    vectors = sum(vector.size for vector in checkpoint.vectors.values())
    biases = sum(site.shape[0] for site in sites if site.bias)
    parameters = sum(site.shape[0] * site.shape[1] for site in sites) + vectors + biases
    made = artifact.quantization(checkpoint.config)
    return Description(
        name=checkpoint.name,
        architecture=checkpoint.spec.architecture,
        layers=checkpoint.spec.num_layers,
        parameters=parameters,
        nbytes=checkpoint.nbytes,
        bits_per_weight=8 * checkpoint.nbytes / parameters,
        recipe=made.get("recipe"),
        cache=made.get("cache") or {},
        fingerprint=checkpoint.fingerprint,
        sites=sites,
    )


def spell(spec: msgspec.Struct) -> str:
    """A format or term by its tag and settings: `int(bits=4, group_size=64)`."""
    values = {name: getattr(spec, name) for name in spec.__struct_fields__}
    told = ", ".join(f"{name}={value!r}" for name, value in values.items() if value not in (None, False))
    return f"{spec.__struct_config__.tag}({told})"


def _site(name: str, coded: Coded, error: float | None) -> SiteDescription:
    return SiteDescription(
        name=name,
        shape=coded.shape,
        terms=tuple(_spell_term(term) for term in coded.terms),
        activation=None if coded.activation is None else spell(coded.activation),
        bias=coded.bias is not None,
        nbytes=coded.nbytes,
        bits_per_weight=8 * coded.nbytes / (coded.shape[0] * coded.shape[1]),
        error=error,
    )


def _spell_term(term: Term) -> str:
    """A dense term is its format."""
    return spell(term.format)


def _errors(checkpoint: Checkpoint) -> dict[str, float]:
    """Site -> error, from the report of the run."""
    content = checkpoint.files.get(artifact.REPORT)
    sites = json_text.parse_object(content, artifact.REPORT).get("sites") if content else None
    listed = [site for site in sites if isinstance(site, dict)] if isinstance(sites, list) else []
    return {site["name"]: site["error"] for site in listed if _is_error(site.get("name"), site.get("error"))}


def _is_error(name: object, error: object) -> bool:
    return isinstance(name, str) and type(error) in (int, float)

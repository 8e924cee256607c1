"""One matrix in an artifact: what its arrays mean, as JSON beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
import numpy as np

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats import Activation
from intaglio.models.json_text import shown
from intaglio.terms import Coded, Term
from intaglio.types import Array

Extent = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape, terms and activation of a matrix; term i's array `a` is stored as `<name>.terms.<i>.<a>`."""

    shape: tuple[Extent, Extent]
    terms: Annotated[tuple[Term, ...], msgspec.Meta(min_length=1, max_length=16)]
    activation: Activation | None = None
    bias: bool = False
    order: bool = False

    def tensors(self, name: str) -> set[str]:
        """The names of its arrays in the file."""
        stored = {
            f"{name}.terms.{i}.{array}"
            for i, term in enumerate(self.terms)
            for array in term.arrays(self.shape)
        }
        return stored | {f"{name}.{one}" for one in ("bias", "order") if getattr(self, one)}

    def read(self, name: str, array: Callable[[str], Array]) -> Coded:
        """The matrix, its arrays checked."""
        prefix = f"{name}.terms."
        names = self.tensors(name)
        coded = Coded(
            shape=self.shape,
            terms=self.terms,
            state={n.removeprefix(prefix): array(n) for n in sorted(names) if n.startswith(prefix)},
            activation=self.activation,
            bias=array(f"{name}.bias") if self.bias else None,
            order=array(f"{name}.order") if self.order else None,
        )
        terms.validate(coded, name)
        return coded


def of(coded: Coded) -> Site:
    """What is written beside the arrays of `coded`."""
    return Site(coded.shape, coded.terms, coded.activation, coded.bias is not None, coded.order is not None)


def arrays(name: str, coded: Coded) -> dict[str, Array]:
    """Its arrays under their names in the file."""
    stored = {f"{name}.terms.{key}": np.asarray(array) for key, array in coded.state.items()}
    beside = {f"{name}.bias": coded.bias, f"{name}.order": coded.order}
    return stored | {key: array for key, array in beside.items() if array is not None}


def encode(coded: Coded) -> str:
    """A site as JSON."""
    return msgspec.json.encode(of(coded)).decode()


def decode(where: str, metadata: Mapping[str, str]) -> dict[str, Site]:
    """Every site that a file's metadata describes."""
    found = {}
    for name, text in metadata.items():
        if name == "format":
            continue
        try:
            found[name] = _DECODER.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise IntaglioError(f"{where}: {shown(name)} is described wrongly: {shown(str(error))}") from None
    return found


_DECODER = msgspec.json.Decoder(Site)

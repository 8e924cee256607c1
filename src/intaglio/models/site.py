"""One matrix in an artifact: what its arrays mean, as JSON beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
import numpy as np

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats import Activation
from intaglio.models import roles
from intaglio.models.json_text import shown
from intaglio.terms import Coded, Dictionary, Term
from intaglio.types import Array

Extent = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape, terms and activation of a matrix; term i's array `a` is stored as `<name>.terms.<i>.<a>`.

    `shared`: the matrix that stores the atoms of this one's dictionary, which are its own as well.
    """

    shape: tuple[Extent, Extent]
    terms: Annotated[tuple[Term, ...], msgspec.Meta(min_length=1, max_length=16)]
    activation: Activation | None = None
    bias: bool = False
    order: bool = False
    shared: str | None = None

    def tensors(self, name: str) -> set[str]:
        """The names in the file of the arrays that are stored with it."""
        stored = {place for place in self._places(name).values() if place.startswith(f"{name}.terms.")}
        return stored | {f"{name}.{one}" for one in ("bias", "order") if getattr(self, one)}

    def read(self, name: str, array: Callable[[str], Array]) -> Coded:
        """The matrix, its arrays checked."""
        coded = Coded(
            shape=self.shape,
            terms=self.terms,
            state={key: array(place) for key, place in self._places(name).items()},
            activation=self.activation,
            bias=array(f"{name}.bias") if self.bias else None,
            order=array(f"{name}.order") if self.order else None,
            shared=self.shared,
        )
        terms.validate(coded, name)
        return coded

    def _places(self, name: str) -> dict[str, str]:
        """`<i>.<array>` of each of its terms' arrays -> its name in the file."""
        keys = (f"{i}.{array}" for i, term in enumerate(self.terms) for array in term.arrays(self.shape))
        lent = {f"0.{array}" for array in self.terms[0].reader(self.shape)}
        owner = name if self.shared is None else self.shared
        return {key: f"{owner if key in lent else name}.terms.{key}" for key in sorted(keys)}


def of(coded: Coded) -> Site:
    """What is written beside the arrays of `coded`."""
    bias, order = coded.bias is not None, coded.order is not None
    return Site(coded.shape, coded.terms, coded.activation, bias, order, coded.shared)


def arrays(name: str, coded: Coded) -> dict[str, Array]:
    """The arrays that are stored with it, under their names in the file."""
    stored = {f"{name}.terms.{key}": np.asarray(array) for key, array in coded.own.items()}
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


def check_shared(where: str, sites: Mapping[str, Site]) -> None:
    """Refuses a matrix whose atoms are said to be those of one that has none for it."""
    for name, one in sites.items():
        if one.shared is not None and (fault := _unshared(name, one, one.shared, sites)):
            raise IntaglioError(f"{where}: {shown(name)} shares the atoms of {shown(one.shared)}, {fault}")


def _unshared(name: str, one: Site, owner: str, sites: Mapping[str, Site]) -> str | None:
    found = sites.get(owner)
    if found is None:
        return "which is not there"
    if found.shared is not None:
        return "which are no atoms of its own"
    if roles.input_of(name) is None or roles.input_of(name) != roles.input_of(owner):
        return "which does not read the same input"
    if len(one.terms) > 1 or not isinstance(one.terms[0], Dictionary) or one.order:
        return "but is not one dictionary without an order"
    if (one.terms, one.activation, one.order) != (found.terms, found.activation, found.order):
        return "which is coded in another way"
    return None


_DECODER = msgspec.json.Decoder(Site)

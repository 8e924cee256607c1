"""A model as it is stored: configuration, named matrices and vectors, and the files beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded
from intaglio.types import Array

T = TypeVar("T")


class Lazy(Mapping[str, T], Generic[T]):
    """Entries read when asked for, and not kept."""

    def __init__(self, readers: Mapping[str, Callable[[], T]]) -> None:
        self._readers = readers

    def __getitem__(self, name: str) -> T:
        return self._readers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class Overlay(Mapping[str, T], Generic[T]):
    """`base` with some of its entries replaced, or new ones added."""

    def __init__(self, base: Mapping[str, T], over: Mapping[str, T]) -> None:
        self._base = base
        self._over = over

    def __getitem__(self, name: str) -> T:
        return self._over[name] if name in self._over else self._base[name]

    def __contains__(self, name: object) -> bool:
        return name in self._over or name in self._base

    def __iter__(self) -> Iterator[str]:
        yield from self._base
        yield from (name for name in self._over if name not in self._base)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Checkpoint:
    """One model. `linears` and `vectors` may be plain dicts (in memory) or lazy (in mapped files).

    `files` are tokenizer.json, generation_config.json and the like; `nbytes` counts the weights as stored.
    """

    name: str
    config: Mapping[str, Any]  # Hugging Face's config.json
    spec: ModelSpec
    linears: Mapping[str, Coded]
    vectors: Mapping[str, Array]  # float32
    files: Mapping[str, bytes] = field(default_factory=dict)
    stored_bytes: int | None = None
    identify: Callable[[], str] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 that changes with the config or any stored byte of the weights; read when first asked."""
        return self.identify() if self.identify else _content(self)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all weights as they are stored."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        return sum(coded.nbytes for coded in self.linears.values()) + sum(
            v.nbytes for v in self.vectors.values()
        )

    def replace(
        self, linears: Mapping[str, Coded] | None = None, vectors: Mapping[str, Array] | None = None
    ) -> Checkpoint:
        """The same model with some matrices or vectors taken from elsewhere."""
        return Checkpoint(
            name=self.name,
            config=self.config,
            spec=self.spec,
            linears=Overlay(self.linears, linears or {}),
            vectors=Overlay(self.vectors, vectors or {}),
            files=self.files,
        )

    def with_layer(self, layer: int, other: Checkpoint) -> Checkpoint:
        """The same model with one layer of `other`, read when asked for.

        Both must mean the same by their hidden state: a rotation changes that.
        """
        prefix = f"model.layers.{layer}."
        linears = {name: _entry(other.linears, name) for name in other.linears if name.startswith(prefix)}
        vectors = {name: _entry(other.vectors, name) for name in other.vectors if name.startswith(prefix)}
        return self.replace(Lazy(linears), Lazy(vectors))


def check_finite(array: Array, name: str) -> None:
    """Refuses weights that are NaN or infinite: nothing computed from them would mean anything."""
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise IntaglioError(
            f"{name}: {wrong} of {array.size} weights are NaN or infinite: the model is broken"
        )


def _entry(mapping: Mapping[str, T], name: str) -> Callable[[], T]:
    return lambda: mapping[name]


def _content(checkpoint: Checkpoint) -> str:
    config = json.dumps(dict(checkpoint.config), sort_keys=True, default=str)
    digest = hashlib.sha256(config.encode())
    for name, coded in sorted(checkpoint.linears.items()):
        specs = msgspec.json.encode((name, coded.shape, coded.terms, coded.activation))
        digest.update(specs)
        beside = {"bias": coded.bias, "order": coded.order}
        for key, array in sorted({**coded.state, **beside}.items()):
            if array is not None:
                _add(digest, key, array)
    for name, vector in sorted(checkpoint.vectors.items()):
        _add(digest, name, vector)
    return digest.hexdigest()


def _add(digest: Any, name: str, array: Array) -> None:
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).view(np.uint8).data)

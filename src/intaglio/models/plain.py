"""A model in plain numbers, from any kind of file: its tensors checked against its config, read lazily."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats import Floating, Format
from intaglio.models import layout
from intaglio.models.architectures import Part, architecture, spec_from_config
from intaglio.models.checkpoint import Checkpoint, Lazy
from intaglio.models.json_text import shown
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded, Dense
from intaglio.types import Array, State

Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]


class Tensors(Protocol):
    """Named arrays under Hugging Face's names."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def nbytes(self) -> int: ...

    def read(self, name: str, rows: tuple[int, int] | None) -> Array:
        """The array, or some of its rows."""
        ...

    def coded(self, name: str, rows: tuple[int, int] | None) -> tuple[Format, State] | None:
        """The same numbers in a format of ours, bit for bit, where the file holds them in few bits."""
        ...


# what files hold besides the parameters: buffers that are computed from the config
IGNORED = (".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached", ".masked_bias")


def checkpoint(
    name: str,
    config: Mapping[str, Any],
    tensors: Tensors,
    *,
    files: Mapping[str, bytes],
    identify: Callable[[], str],
    dtype: Dtype | None = None,
    gains_whole: bool = False,
) -> Checkpoint:
    """The model `config` describes in `tensors`; `dtype` None keeps what is stored.

    `gains_whole`: norms are stored as multiplied, whatever offset the architecture has in Hugging Face files.
    """
    spec = spec_from_config(config)
    parts = architecture(config).sources(spec, config)
    shapes = _shapes(spec)
    _check(name, parts, shapes, tensors, ignored=("lm_head.weight",) if spec.tied else ())
    linears, vectors = {}, {}
    for site, shape in shapes.items():
        part = parts[f"{site}.weight"]
        if len(shape) == 1:
            vectors[site] = partial(_vector, tensors, part, 0.0 if gains_whole else part.add)
        else:
            linears[site] = partial(_linear, tensors, part, parts.get(f"{site}.bias"), dtype)
    return Checkpoint(
        name=name,
        config=config,
        spec=spec,
        linears=Lazy(linears),
        vectors=Lazy(vectors),
        files=files,
        stored_bytes=tensors.nbytes,
        identify=identify,
    )


def _linear(tensors: Tensors, part: Part, bias: Part | None, dtype: Dtype | None) -> Coded:
    rows, cols = tensors.shapes[part.name]
    if part.rows is not None:
        rows = part.rows[1] - part.rows[0]
    found = None if dtype else tensors.coded(part.name, part.rows)
    form, state = found or _plain(tensors, part, dtype)
    return Coded(
        shape=(rows, cols),
        terms=(Dense(form),),
        state={f"0.{name}": array for name, array in state.items()},
        bias=None if bias is None else tensors.read(bias.name, bias.rows).astype(np.float32),
    )


def _plain(tensors: Tensors, part: Part, dtype: Dtype | None) -> tuple[Format, State]:
    value = tensors.read(part.name, part.rows)
    kept = str(value.dtype)
    if kept not in get_args(Dtype):
        raise IntaglioError(
            f"tensor {part.name}: weights in {kept} are not read, only {', '.join(get_args(Dtype))}"
        )
    form = Floating(dtype or kept)  # type: ignore[arg-type]
    return form, {"value": _cast(value, form.arrays(value.shape)["value"].dtype, part.name)}


def _cast(value: Array, dtype: np.dtype[Any], name: str) -> Array:
    with np.errstate(over="ignore"):  # reported below, with the tensor's name
        cast = value.astype(dtype, copy=False)
    if dtype == np.float16 and value.dtype != dtype and np.isinf(cast).any() and not np.isinf(value).any():
        raise IntaglioError(f"tensor {name}: a weight does not fit float16: bfloat16 and float32 hold it")
    return cast


def _vector(tensors: Tensors, part: Part, add: float) -> Array:
    return tensors.read(part.name, part.rows).astype(np.float32) + np.float32(add)


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    return {**layout.linears(spec), **layout.vectors(spec)}


def _check(
    name: str,
    parts: Mapping[str, Part],
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Tensors,
    ignored: tuple[str, ...],
) -> None:
    """The file has the tensors the config implies, in their shapes, and none that would be left out."""
    wanted: dict[str, tuple[int, ...]] = {}
    for canonical, part in parts.items():
        site, _, kind = canonical.rpartition(".")
        shape = shapes[site] if kind == "weight" else shapes[site][:1]
        before = wanted.get(part.name, (0,))[0]
        wanted[part.name] = shape if part.rows is None else (max(before, part.rows[1]), *shape[1:])
    for tensor, shape in wanted.items():
        if tensor not in tensors.shapes:
            raise IntaglioError(f"{name}: tensor {tensor} is missing, which its config.json implies")
        if tensors.shapes[tensor] != shape:
            found = list(tensors.shapes[tensor])
            raise IntaglioError(f"{name}: tensor {tensor} is {found}, its config.json implies {list(shape)}")
    unused = [t for t in tensors.shapes if t not in wanted and t not in ignored and not t.endswith(IGNORED)]
    if unused:
        raise IntaglioError(
            f"{name}: {len(unused)} tensors, {shown(min(unused))} first, have no place in the model its "
            f"config.json describes, and would be left out"
        )

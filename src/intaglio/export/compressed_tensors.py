"""compressed-tensors: a directory that vLLM, SGLang and transformers read, by the codes' own numbers.

`pack-quantized` has codes as dense bit streams in 32-bit words, which is how they lie here as well;
`int-quantized` has int8 beside inputs of 8 bits. What lies outside the layers becomes plain numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intaglio.errors import IntaglioError, UsageError
from intaglio.export.affine import affine, grid_of, values
from intaglio.export.exported import Exported, check, layers, left_behind
from intaglio.formats import Integer
from intaglio.formats.pack import pack
from intaglio.models import artifact, roles
from intaglio.models.architectures import architecture
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.durable import new_directory
from intaglio.models.huggingface_dir import CONFIG
from intaglio.models.safetensors import DTYPES
from intaglio.models.safetensors_writer import ShardWriter
from intaglio.terms import Coded
from intaglio.types import Array

FORMAT = "compressed-tensors"
PLAIN = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
OURS = ("README.md", artifact.RECIPE, artifact.REPORT)
PACKED, INT8 = "pack-quantized", "int-quantized"


class Scheme(NamedTuple):
    """How the matrices of a group are coded."""

    format: str
    bits: int
    symmetric: bool
    group: int | None  # None: a row

    @property
    def name(self) -> str:
        """`int4 g64`, `int8 channel x int8`."""
        group = "channel" if self.group is None else f"g{self.group}"
        return f"int{self.bits} {group}{' x int8' if self.format == INT8 else ''}"

    def config(self, targets: list[str]) -> dict[str, Any]:
        """Its entry in config_groups."""
        strategy = "channel" if self.group is None else "group"
        common = {"num_bits": self.bits, "type": "int", "symmetric": self.symmetric}
        inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
        return {
            "targets": targets,
            "format": self.format,
            "weights": {**common, "strategy": strategy, "group_size": self.group, "dynamic": False},
            "input_activations": inputs if self.format == INT8 else None,
            "output_activations": None,
        }


def scheme_of(coded: Coded) -> Scheme | None:
    """What a matrix becomes; None: plain numbers."""
    grid, cols = grid_of(coded), coded.shape[1]
    if grid is None or not grid.whole or cols % grid.group:
        return None
    group = None if grid.group == cols else grid.group
    eight = grid.bits == 8 and grid.symmetric and group is None and _reads_bytes(coded)
    return Scheme(INT8 if eight else PACKED, grid.bits, grid.symmetric, group)


def write(
    checkpoint: Checkpoint, output: Path, *, dtype: str = "float16", dense: bool = False, force: bool = False
) -> Exported:
    """The directory `output`, with scales and plain numbers as `dtype`; one matrix is in memory at a time."""
    schemes: dict[str, Scheme | None] = {}
    rounded = 0  # matrices whose inputs are, though the format leaves them float
    for site in layers(checkpoint):
        coded = checkpoint.linears[site]
        scheme = schemes[site] = scheme_of(coded)
        rounded += coded.activation is not None and (scheme is None or scheme.format != INT8)
    check(checkpoint, schemes, FORMAT, dense=dense)
    if dtype not in PLAIN:
        raise UsageError(f"dtype is {dtype!r}, it must be one of {', '.join(PLAIN)}")
    with new_directory(output, force=force) as directory:
        with ShardWriter(directory) as writer:
            for arrays in _arrays(checkpoint, schemes, DTYPES[PLAIN[dtype]]):
                writer.add(arrays, {})
            writer.finish()
        config = _config(checkpoint, schemes, dtype)
        (directory / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        for name, content in checkpoint.files.items():
            if name not in OURS:
                (directory / name).write_bytes(content)
    names = Counter(one.name if one else dtype for one in schemes.values())
    return Exported(
        format=FORMAT,
        path=str(output),
        nbytes=sum(file.stat().st_size for file in output.glob("*.safetensors")),
        matrices=dict(names),
        notes=left_behind(checkpoint, rounded),
    )


def _reads_bytes(coded: Coded) -> bool:
    """Whether its inputs are rounded to 8 bits, each token with one scale."""
    form = coded.activation
    return isinstance(form, Integer) and form.bits == 8 and form.group_size is None


def _arrays(
    checkpoint: Checkpoint, schemes: Mapping[str, Scheme | None], plain: np.dtype[Any]
) -> Iterator[dict[str, Array]]:
    """Every tensor of the model, those of a matrix together, under Hugging Face's names."""
    sources = architecture(checkpoint.config).sources(checkpoint.spec, checkpoint.config)
    for ours, part in sources.items():
        site, _, what = ours.rpartition(".")
        theirs = part.name.removesuffix(f".{what}")
        if part.rows is not None:
            raise UsageError(f"{FORMAT}: {theirs} is one matrix there and several here: not written yet")
        if site in checkpoint.vectors:
            yield {part.name: _narrow(checkpoint.vectors[site] - part.add, plain, site)}
            continue
        coded = checkpoint.linears[site]
        if what == "bias":
            assert coded.bias is not None, f"{site} has no bias"
            yield {part.name: _narrow(coded.bias, plain, ours)}
        elif scheme := schemes.get(site):
            yield {f"{theirs}.{name}": array for name, array in _coded(coded, scheme, plain, site).items()}
        else:
            yield {part.name: _narrow(values(coded), plain, site)}


def _coded(coded: Coded, scheme: Scheme, plain: np.dtype[Any], site: str) -> dict[str, Array]:
    found = affine(coded)
    scale = _narrow(found.scale, plain, f"a scale of {site}")
    if scheme.format == INT8:
        return {"weight": (found.codes ^ np.uint8(128)).view(np.int8), "weight_scale": scale}
    arrays = {
        "weight_packed": _words(found.codes, scheme.bits),
        "weight_scale": scale,
        "weight_shape": np.array(coded.shape, np.int64),
    }
    if not scheme.symmetric:
        zeros = np.ascontiguousarray(found.zero.astype(np.uint8).T)  # packed along the rows
        arrays["weight_zero_point"] = np.ascontiguousarray(_words(zeros, scheme.bits).T)
    return arrays


def _words(codes: Array, bits: int) -> Array:
    """Codes uint8 (rows, cols) -> int32 (rows, ceil(cols * bits / 32)), a dense bit stream a row."""
    stream = pack(codes, bits)
    padded = np.zeros((len(stream), -(-stream.shape[1] // 4) * 4), np.uint8)
    padded[:, : stream.shape[1]] = stream
    return padded.view("<i4")


def _narrow(values: Array, plain: np.dtype[Any], what: str) -> Array:
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values).astype(plain)
    if not np.isfinite(narrow.astype(np.float32)).all():
        raise IntaglioError(f"{what} does not fit {plain.name}: --dtype bfloat16 has a wider range")
    return narrow


def _config(checkpoint: Checkpoint, schemes: Mapping[str, Scheme | None], dtype: str) -> dict[str, Any]:
    """The model's own config, and how its matrices are coded; without codes it is an ordinary model's."""
    ours = ("dtype", "torch_dtype", "quantization_config")
    own = {key: value for key, value in checkpoint.config.items() if key not in ours} | {"torch_dtype": dtype}
    groups: dict[Scheme, list[str]] = {}
    for site, scheme in schemes.items():
        if scheme:
            groups.setdefault(scheme, []).append(site)
    if not groups:
        return own
    plain = [site for site, scheme in schemes.items() if scheme is None]
    formats = {scheme.format for scheme in groups}
    return {
        **own,
        "quantization_config": {
            "quant_method": FORMAT,
            "format": formats.pop() if len(formats) == 1 else "mixed-precision",
            "quantization_status": "compressed",
            "config_groups": {
                f"group_{i}": scheme.config(sites if len(groups) > 1 else ["Linear"])
                for i, (scheme, sites) in enumerate(groups.items())
            },
            "ignore": [roles.HEAD, *plain],
            "kv_cache_scheme": None,
        },
    }

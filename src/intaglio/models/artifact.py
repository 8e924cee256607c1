"""A compressed model's directory: configuration, coded matrices, what came with the model, how it was made.

config.json        the model's own, and quantization_config {quant_method: intaglio, version, recipe, cache}
model*.safetensors `<site>.terms.<i>.<array>`, `<site>.bias`, `<norm>.weight`; metadata: each site as JSON
tokenizer.json …   as they came
recipe.yaml report.json README.md SHA256SUMS
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.models import card, checksums, json_text, layout, roles, site
from intaglio.models.architectures import spec_from_config
from intaglio.models.checkpoint import Checkpoint, Lazy
from intaglio.models.durable import new_directory
from intaglio.models.huggingface_dir import CONFIG, fingerprint, read_files
from intaglio.models.json_text import shown
from intaglio.models.safetensors_writer import SHARD_BYTES, ShardWriter
from intaglio.models.shards import Shards
from intaglio.models.site import Site
from intaglio.models.spec import ModelSpec
from intaglio.terms import Coded
from intaglio.types import Array

METHOD = "intaglio"  # quantization_config.quant_method
VERSION = 1
RECIPE, REPORT, CARD = "recipe.yaml", "report.json", "README.md"
Report: TypeAlias = "object | Callable[[Path], object]"


def write(
    path: Path,
    *,
    config: Mapping[str, Any],
    spec: ModelSpec,
    linears: Iterable[tuple[str, Coded]],
    vectors: Mapping[str, Array],
    files: Mapping[str, bytes],
    recipe_text: str,
    report: Report,
    cache: Mapping[str, Any] | None = None,
    force: bool = False,
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """`path` appears when everything in it is on disk and summed; `linears` may be made one by one.

    A `report` that is a function is called with the directory when only it, the card and the sums are
    missing: it may open the artifact there (`read(…, verify=False)`), and raise to prevent it.
    """
    path = Path(path)
    with new_directory(path, force=force) as directory:
        shapes = _write_weights(directory, linears, vectors, max_shard_bytes)
        final = _final_config(config, spec, shapes, recipe_text, cache)
        _write_json(directory / CONFIG, final)
        for name, content in files.items():
            if name not in (RECIPE, REPORT, CARD):
                (directory / name).write_bytes(content)
        (directory / RECIPE).write_text(recipe_text, encoding="utf-8")
        made = msgspec.to_builtins(report(directory) if callable(report) else report)
        _write_json(directory / REPORT, made)
        text = card.render(path.name, final, made, recipe_text, files.get(CARD, b""))
        (directory / CARD).write_text(text, encoding="utf-8")
        checksums.write(directory)


def read(path: Path, *, verify: bool = True) -> Checkpoint:
    """The model in `path`, every array checked as it is read; `verify`: all now, and the sum of each file."""
    path = Path(path)
    config = json_text.read_object(path / CONFIG)
    _check_version(path, config)
    if not verify:
        return _open(path, config)
    with checksums.verified(path) as listed:  # the sums take one core a while: the rest is done meanwhile
        _check_listed(path, listed)
        lazy = _open(path, config)
        # what is read are views of the mapped files
        checkpoint = replace(lazy, linears=dict(lazy.linears), vectors=dict(lazy.vectors))
    return checkpoint


def _open(path: Path, config: dict[str, Any]) -> Checkpoint:
    spec = spec_from_config(config)
    shards = Shards.open(path)
    sites = _sites(shards)
    _check_contents(str(path), spec, sites, shards)
    return Checkpoint(
        name=str(path),
        config=config,
        spec=spec,
        linears=Lazy({name: partial(one.read, name, shards.read) for name, one in sites.items()}),
        vectors=Lazy({n: partial(_vector, shards, n, shape) for n, shape in layout.vectors(spec).items()}),
        files=read_files(path) | _own_files(path),
        stored_bytes=shards.nbytes,
        identify=lambda: fingerprint(config, checksums.hash_files(shards.paths())),
    )


def quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config's quantization_config, or nothing."""
    found = config.get("quantization_config")
    return found if isinstance(found, Mapping) else {}


def is_artifact(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of ours."""
    return quantization(config).get("quant_method") == METHOD


def _write_weights(
    directory: Path,
    linears: Iterable[tuple[str, Coded]],
    vectors: Mapping[str, Array],
    max_bytes: int,
) -> dict[str, tuple[int, int]]:
    """Name -> shape of the matrices, as they came."""
    sites: dict[str, Site] = {}
    with ShardWriter(directory, max_bytes) as writer:
        for name, coded in linears:
            assert name not in sites, name
            terms.validate(coded, name)
            sites[name] = site.of(coded)
            writer.add(site.arrays(name, coded), {name: site.encode(coded)})
        for name in vectors:
            writer.add({f"{name}.weight": np.asarray(vectors[name], np.float32)}, {})
        site.check_shared("the compressed model", sites)
        writer.finish()
    return {name: one.shape for name, one in sites.items()}


def _final_config(
    config: Mapping[str, Any],
    spec: ModelSpec,
    shapes: Mapping[str, tuple[int, int]],
    recipe_text: str,
    cache: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The config the artifact is read with; it must describe exactly what was written."""
    tied = roles.HEAD not in shapes
    final = {**config, "tie_word_embeddings": tied}
    final["quantization_config"] = {
        "quant_method": METHOD,
        "version": VERSION,
        "recipe": card.recipe_name(recipe_text),
        "cache": dict(cache or {}),
    }
    spec = msgspec.structs.replace(spec, tied=tied)
    if spec_from_config(final) != spec:
        raise IntaglioError("the model was changed in a way that its config.json cannot say")
    _check_sites("the compressed model", spec, shapes)
    return final


def _check_listed(path: Path, listed: Container[str]) -> None:
    for file in path.iterdir():
        checked = file.suffix in (".safetensors", ".json", ".jinja", ".txt", ".model", ".yaml")
        if checked and file.name not in listed:
            raise IntaglioError(f"{file} is not listed in {checksums.SUMS}: it was added later")


def _check_version(path: Path, config: Mapping[str, Any]) -> None:
    if not is_artifact(config):
        raise IntaglioError(f"{path} is not an Intaglio artifact: its config.json does not say so")
    version = quantization(config).get("version")
    if type(version) is not int or version != VERSION:
        raise IntaglioError(
            f"{path} has format version {shown(version)}; this program reads version {VERSION}"
        )


def _sites(shards: Shards) -> dict[str, Site]:
    found: dict[str, Site] = {}
    for file in shards.files:
        described = site.decode(str(file.path), file.metadata)
        if twice := found.keys() & described.keys():
            raise IntaglioError(
                f"{file.path}: describes {shown(min(twice))}, which another file describes too"
            )
        found |= described
    return found


def _check_contents(where: str, spec: ModelSpec, sites: Mapping[str, Site], shards: Shards) -> None:
    """The files hold the model's matrices and vectors, each complete, and nothing besides."""
    _check_sites(where, spec, {name: one.shape for name, one in sites.items()})
    site.check_shared(where, sites)
    wanted = {f"{name}.weight" for name in layout.vectors(spec)}
    for name, one in sites.items():
        wanted |= one.tensors(name)
    if missing := wanted - shards.shapes.keys():
        raise IntaglioError(f"{where}: tensor {shown(min(missing))} is missing")
    if unused := shards.shapes.keys() - wanted:
        raise IntaglioError(f"{where}: tensor {shown(min(unused))} belongs to nothing")


def _check_sites(where: str, spec: ModelSpec, shapes: Mapping[str, tuple[int, int]]) -> None:
    required, optional = layout.linears(spec), layout.optional_linears(spec)
    for name, shape in required.items():
        if name not in shapes:
            raise IntaglioError(f"{where}: the matrix {name} is missing")
        if shapes[name] != shape:
            raise IntaglioError(f"{where}: {name} is {shapes[name]}, its config.json implies {shape}")
    for name in shapes.keys() - required.keys():
        if shapes[name] != optional.get(name):
            raise IntaglioError(f"{where}: the matrix {shown(name)} has no place in this model")


def _vector(shards: Shards, name: str, shape: tuple[int]) -> Array:
    array = shards.read(f"{name}.weight")
    if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
        raise IntaglioError(f"{name} is {array.dtype} {array.shape}, expected {shape[0]} finite float32")
    return array


def _own_files(path: Path) -> dict[str, bytes]:
    return {name: json_text.read_bytes(path / name) for name in (RECIPE, REPORT) if (path / name).is_file()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

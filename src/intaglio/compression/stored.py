"""A finished block as one safetensors file: matrices as in an artifact, norms, and what the solvers noted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from intaglio.compression.blocks import Block
from intaglio.models import safetensors_writer, site
from intaglio.models.safetensors import Safetensors
from intaglio.types import Array

NOTES = "notes"  # in the metadata, beside the sites
WEIGHT = ".weight"  # after the name of a norm


def write_block(path: Path, block: Block) -> None:
    """The file appears when it is whole."""
    arrays: dict[str, Array] = {f"{name}{WEIGHT}": vector for name, vector in block.vectors.items()}
    metadata = {name: site.encode(coded) for name, coded in block.linears.items()}
    for name, coded in block.linears.items():
        arrays |= site.arrays(name, coded)
    notes = {name: coded.notes for name, coded in block.linears.items()}
    safetensors_writer.write(path, arrays, {**metadata, NOTES: msgspec.json.encode(notes).decode()})


def read_block(path: Path) -> Block:
    """What was written, as views of the mapped file."""
    file = Safetensors.open(path)
    metadata = dict(file.metadata)
    notes = msgspec.json.decode(metadata.pop(NOTES), type=dict[str, dict[str, float]])
    sites = site.decode(str(path), metadata)
    site.check_shared(str(path), sites)
    linears = {
        name: replace(one.read(name, file.__getitem__), notes=notes[name]) for name, one in sites.items()
    }
    vectors = {name.removesuffix(WEIGHT): file[name] for name in file if name.endswith(WEIGHT)}
    return Block(linears, vectors)

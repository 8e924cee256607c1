"""The safetensors files of a model directory: one, or several with an index, as one set of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from intaglio.errors import IntaglioError
from intaglio.models import json_text
from intaglio.models.json_text import shown
from intaglio.models.safetensors import Safetensors
from intaglio.types import Array

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")


class Shards:
    """Tensors of several files by name."""

    def __init__(self, files: Iterable[Safetensors]) -> None:
        self.files = tuple(files)
        self._file = {name: file for file in self.files for name in file}
        self.shapes = {name: file.entries[name].shape for name, file in self._file.items()}
        self.nbytes = sum(
            e.data_offsets[1] - e.data_offsets[0] for f in self.files for e in f.entries.values()
        )

    @classmethod
    def open(cls, directory: Path) -> Shards:
        """Those of a directory, as its index says; a name outside the directory is refused."""
        if (directory / INDEX).exists():
            return cls(_indexed(directory))
        if (directory / SINGLE).exists():
            return cls([Safetensors.open(directory / SINGLE)])
        raise IntaglioError(f"{directory}: {_absent(directory)}")

    def coded(self, name: str, rows: tuple[int, int] | None) -> None:
        """These files hold plain numbers only."""

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """The array, or its rows [rows[0], rows[1]), a view of the mapped file."""
        array = self._file[name][name]
        return array if rows is None else array[rows[0] : rows[1]]

    def paths(self) -> list[Path]:
        """The files."""
        return [file.path for file in self.files]


def _indexed(directory: Path) -> list[Safetensors]:
    where = directory / INDEX
    weight_map = json_text.read_object(where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise IntaglioError(f"{where}: has no weight_map from tensors to files")
    names = sorted({_plain_name(where, file) for file in weight_map.values()})
    shards = {name: Safetensors.open(directory / name) for name in names}
    _check_index(where, weight_map, shards)
    return list(shards.values())


def _check_index(where: Path, weight_map: Mapping[str, str], shards: Mapping[str, Safetensors]) -> None:
    """Index and shards must name the same tensors, each once."""
    for tensor, file in weight_map.items():
        if tensor not in shards[file]:
            raise IntaglioError(f"{where}: places tensor {shown(tensor)} in {file}, which does not have it")
    for file, shard in shards.items():
        for tensor in shard:
            if weight_map.get(tensor) != file:
                raise IntaglioError(f"{where}: does not place tensor {shown(tensor)}, found in {file}, there")


def _plain_name(where: Path, name: object) -> str:
    plain = isinstance(name, str) and name.endswith(".safetensors") and name.isprintable()
    if not plain or set(str(name)) & set("/\\:"):
        raise IntaglioError(f"{where}: {shown(name)} is not the name of a safetensors file beside it")
    return str(name)


def _absent(directory: Path) -> str:
    if any((directory / name).exists() for name in PICKLED):
        return f"its weights are pickled, which is not read: save them as {SINGLE}"
    return f"has neither {SINGLE} nor {INDEX}"

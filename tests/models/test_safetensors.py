"""Safetensors: bytes as the official library reads and writes them; every lie in a header refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intaglio.errors import IntaglioError
from intaglio.models.safetensors import DTYPES, MAX_HEADER, Safetensors
from intaglio.models.safetensors_writer import ShardWriter, write
from intaglio.models.shards import INDEX, Shards
from tests.models.hostile import damage, little_memory

SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 7, 17]), max_size=3).map(tuple)
ARRAYS = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(dtype),
    st.sampled_from(list(DTYPES.values())),
    SHAPES,
    st.integers(0, 99),
)
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__" and "\0" not in name)
FILE_FIXTURE = {"deadline": 10_000, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def content(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refused(path: Path, raw: bytes) -> str:
    path.write_bytes(raw)
    with little_memory(), pytest.raises(IntaglioError) as caught:
        Safetensors.open(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@settings(max_examples=60, **FILE_FIXTURE)
@given(
    arrays=st.dictionaries(NAMES, ARRAYS, max_size=5), metadata=st.dictionaries(NAMES, st.text(max_size=9))
)
def test_what_is_written_is_read(arrays: dict[str, Any], metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, arrays, metadata)
    file = Safetensors.open(path)
    assert dict(file.metadata) == metadata
    assert set(file) == set(arrays)
    for name, array in arrays.items():
        assert file[name].dtype == array.dtype
        assert file[name].shape == array.shape
        assert file[name].tobytes() == array.tobytes()
        assert file[name].flags.aligned


@settings(max_examples=30, **FILE_FIXTURE)
@given(
    arrays=st.dictionaries(
        st.text("abc.", min_size=1, max_size=5),
        hnp.arrays(
            st.sampled_from([np.float32, np.float16, np.uint8, np.int64]), (2, 3), elements=st.integers(0, 9)
        ),
    )
)
def test_the_official_library_agrees(arrays: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write(ours, arrays)
    safetensors.numpy.save_file(arrays, theirs)
    read, opened = safetensors.numpy.load_file(ours), Safetensors.open(theirs)
    for name, array in arrays.items():
        assert np.array_equal(read[name], array)
        assert np.array_equal(opened[name], array)


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    arrays = {"b": np.ones((2, 2), np.float32), "a": np.ones(3, np.uint8)}
    write(tmp_path / "1", arrays, {"y": "1", "x": "2"})
    write(tmp_path / "2", dict(reversed(arrays.items())), {"x": "2", "y": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, {"a": np.ones(3, np.float32)})
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write(path, {"a": np.ones(3, np.complex64)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "too few"),
        (b"\x02\0\0\0\0\0\0", "too few"),
        (struct.pack("<Q", 2**63) + b"{}", "header claims"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{}", "header claims"),
        (struct.pack("<Q", 3) + b"{}", "header claims"),
        (content(b"[]"), "expected a JSON object"),
        (content(b'{"a":'), "not valid JSON"),
        (content(b"\xff\xff"), "not valid JSON"),
        (content(b"[" * 100000), "not valid JSON"),
        (content(b'{"a":' + b"9" * 5000 + b"}"), "not valid JSON"),
        (content({"a": 3}), "in the header"),
        (content({"a": {"dtype": "F32"}}), "in the header"),
        (content({"a": entry([1], 0, 4) | {"extra": 1}}), "in the header"),
        (content({"a": entry([-1], 0, 4)}), "in the header"),
        (content({"a": entry([1.0], 0, 4)}, b"0000"), "in the header"),
        (content({"a": entry([1] * 9, 0, 4)}, b"0000"), "in the header"),
        (content({"a": entry([2**40, 2**40], 0, 4)}, b"0000"), "needs"),
        (content({"a": entry([2**62], 0, 4)}, b"0000"), "in the header"),
        (content({"a": entry([1], 4, 0)}, b"0000"), "needs 4 bytes, its offsets span -4"),
        (content({"a": entry([1], 0, 4, "Q4")}, b"0000"), "has the dtype 'Q4'; known are BOOL"),
        (content({"a": entry([1], 0, 4)}, b"000"), "cut short"),
        (content({"a": entry([1], 0, 4)}, b"00000"), "1 bytes follow the last"),
        (content({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"0000"), "overlaps another"),
        (content({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, b"0" * 8), "overlaps another"),
        (content({"a": entry([1], 4, 8)}, b"0" * 8), "leaves a hole"),
        (content(b'{"a":{},"a":{}}'), "key 'a' appears twice"),
        (content({"__metadata__": {"a": 1}}), "__metadata__"),
        (content({"__metadata__": {"a": "1"}}, b"0"), "1 bytes follow"),
    ],
)
def test_lies_are_named(raw: bytes, sentence: str, tmp_path: Path) -> None:
    assert sentence in refused(tmp_path / "a.safetensors", raw)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntaglioError, match="no such file"):
        Safetensors.open(tmp_path / "a.safetensors")


@pytest.mark.parametrize("pad", range(4))
def test_unaligned_arrays_are_still_usable(pad: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = json.dumps({"a": entry([1], 0, 1, "U8"), "b": entry([2], 1, 9)}).encode() + b" " * pad
    path.write_bytes(content(header, b"\x01" + np.float32([3, 4]).tobytes()))
    array = Safetensors.open(path)["b"]
    assert array.flags.aligned
    assert array.tolist() == [3, 4]


@settings(max_examples=400, **FILE_FIXTURE)
@given(data=st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    header = {"__metadata__": {"k": "v"}, "a": entry([5, 3], 0, 60), "b": entry([7], 60, 67, "U8")}
    raw = content(header, b"\1" * 67)
    path.write_bytes(data.draw(damage(len(raw), header=180)).apply(raw))
    try:
        file = Safetensors.open(path)
    except IntaglioError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    assert sum(array.nbytes for array in file.values()) <= path.stat().st_size


def shards(directory: Path, count: int = 3) -> Path:
    writer = ShardWriter(directory, max_bytes=40)
    for i in range(count):
        writer.add({f"t{i}": np.full(8, i, np.float32), f"u{i}": np.full(3, i, np.uint8)}, {f"t{i}": "x"})
    writer.finish()
    return directory


def test_shards_are_one_model(tmp_path: Path) -> None:
    opened = Shards.open(shards(tmp_path))
    names = [path.name for path in opened.paths()]
    assert names == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert opened.nbytes == 3 * 35
    assert opened.read("t1", (2, 4)).tolist() == [1, 1]
    assert {path.name for path in tmp_path.iterdir()} == {*names, INDEX}
    assert [dict(file.metadata) for file in opened.files][1] == {"format": "pt", "t1": "x"}


def test_one_shard_needs_no_index(tmp_path: Path) -> None:
    assert [path.name for path in Shards.open(shards(tmp_path, 1)).paths()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"t0": "../model-00001-of-00003.safetensors"}, "is not the name of a safetensors file beside it"),
        ({"t0": "/etc/passwd"}, "is not the name"),
        ({"t0": "a\nb.safetensors"}, "is not the name"),
        ({"t0": 7}, "is not the name"),
        ({"t0": "other.safetensors"}, "no such file"),
        ({"t0": "model-00002-of-00003.safetensors"}, "places tensor 't0' in"),
        ({"t9": "model-00002-of-00003.safetensors"}, "places tensor 't9' in"),
        ({"t0": None}, "is not the name"),
    ],
)
def test_an_index_that_lies_is_refused(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = shards(tmp_path) / INDEX
    index = json.loads(path.read_text())
    index["weight_map"] |= change
    path.write_text(json.dumps(index))
    with pytest.raises(IntaglioError, match=sentence):
        Shards.open(tmp_path)


def test_an_index_that_forgets_is_refused(tmp_path: Path) -> None:
    path = shards(tmp_path) / INDEX
    index = json.loads(path.read_text())
    del index["weight_map"]["u1"]
    path.write_text(json.dumps(index))
    with pytest.raises(IntaglioError, match="does not place tensor 'u1'"):
        Shards.open(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(IntaglioError, match="has neither"):
        Shards.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(IntaglioError, match="pickled"):
        Shards.open(tmp_path)

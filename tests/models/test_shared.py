"""Artifacts in which a dictionary is stored once for several matrices; what refers to another is checked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.cli.anatomy import dissect
from intaglio.compression.blocks import Block
from intaglio.compression.stored import read_block, write_block
from intaglio.engine.executor import Executor
from intaglio.errors import IntaglioError
from intaglio.models import artifact, open_checkpoint, roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.safetensors import Safetensors
from intaglio.terms import Coded, Dictionary, decode
from tests.engine.shared import coded
from tests.models.test_artifact import WEIGHTS, forge, refusal, write
from tests.models.tiny import tiny_checkpoint

TERM = Dictionary(0.2)
Q, K, V, GATE = (roles.site(0, role) for role in ("q", "k", "v", "gate"))
ATOMS = "0.atoms.value"


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    source = tiny_checkpoint("llama-biased")
    return source.replace(coded(source, TERM))


@pytest.fixture
def path(model: Checkpoint, tmp_path: Path) -> Path:
    return write(tmp_path / "a", linears=model.linears.items())


def same(found: Coded, expected: Coded) -> bool:
    arrays = all(np.array_equal(found.state[key], array) for key, array in expected.state.items())
    return arrays and found.shared == expected.shared and found.terms == expected.terms


def test_the_first_of_an_input_has_the_atoms_of_all(model: Checkpoint) -> None:
    linears = model.linears
    rows = {name: linears[name].shape[0] for name in (Q, K, V)}
    assert [linears[name].shared for name in (Q, K, V, GATE)] == [None, Q, Q, None]
    assert linears[roles.site(0, "o")].terms == (TERM,)
    assert linears[roles.site(1, "up")].shared == roles.site(1, "gate")
    together = Dictionary(0.2, rows=sum(rows.values()))
    assert all(linears[name].terms == (together,) for name in rows)
    assert all(linears[name].state[ATOMS] is linears[Q].state[ATOMS] for name in rows)
    assert linears[K].bias is not None


@pytest.mark.parametrize("shard", [1 << 30, 6_000], ids=["one file", "shards"])
@pytest.mark.parametrize("verify", [False, True])
def test_what_is_written_is_read(model: Checkpoint, tmp_path: Path, shard: int, verify: bool) -> None:
    path = write(tmp_path / "a", linears=model.linears.items(), max_shard_bytes=shard)
    found = artifact.read(path, verify=verify)
    assert (len(list(path.glob("*.safetensors"))) > 1) == (shard < 1 << 30)
    for name, expected in model.linears.items():
        assert same(found.linears[name], expected)
        assert np.array_equal(decode(found.linears[name]), decode(expected))


def test_an_owner_may_lie_in_another_file(model: Checkpoint, tmp_path: Path) -> None:
    path = write(tmp_path / "a", linears=model.linears.items(), max_shard_bytes=6_000)
    files = [Safetensors.open(file).metadata.keys() for file in path.glob("*.safetensors")]
    assert any((Q in names) != (K in names) for names in files)
    assert same(artifact.read(path).linears[K], model.linears[K])


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("shard", [1 << 30, 6_000], ids=["one file", "shards"])
def test_atoms_of_a_file_run_once(model: Checkpoint, tmp_path: Path, shard: int, verify: bool) -> None:
    path = write(tmp_path / "a", linears=model.linears.items(), max_shard_bytes=shard)
    plan = Executor(artifact.read(path, verify=verify), threads=1).plan
    atoms = [[roles.input_of(site) for site in line.sites] for line in plan if line.part.endswith("atoms")]
    assert atoms == [
        [f"{layer}.{point}"] * len(members) for layer in (0, 1) for point, members in roles.INPUTS.items()
    ]


def test_a_block_is_read_as_it_was_written(model: Checkpoint, tmp_path: Path) -> None:
    names = [roles.site(0, role) for role in roles.LINEARS]
    block = Block({name: model.linears[name] for name in names}, {})
    write_block(tmp_path / "b", block)
    found = read_block(tmp_path / "b")
    assert set(found.linears) == set(names)
    assert all(same(found.linears[name], model.linears[name]) for name in names)
    assert found.linears[K].notes == model.linears[K].notes
    assert sum(one.nbytes for one in found.linears.values()) == sum(model.linears[n].nbytes for n in names)


def test_every_byte_is_counted_once(model: Checkpoint, path: Path) -> None:
    found, atoms = open_checkpoint(path), model.linears[Q].state[ATOMS].nbytes
    in_memory = sum(one.nbytes for one in model.linears.values())
    vectors = sum(vector.nbytes for vector in model.vectors.values())
    assert found.nbytes == model.nbytes == in_memory + vectors
    assert sum(array.nbytes for array in Safetensors.open(path / WEIGHTS).values()) == found.nbytes
    assert all(sum(a.nbytes for a in model.linears[n].state.values()) > atoms for n in (Q, K, V))
    for name in (K, V):
        one = model.linears[name]
        assert one.bias is not None
        assert one.nbytes == sum(array.nbytes for array in one.state.values()) - atoms + one.bias.nbytes
    seen = dissect(found)
    assert seen.bytes == seen.opened_bytes == found.nbytes
    assert sum(group.bytes for group in seen.groups) == in_memory


def described(path: Path, name: str, **changes: Any) -> dict[str, str]:
    known = json.loads(Safetensors.open(path / WEIGHTS).metadata[name])
    return {name: json.dumps(known | changes)}


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        (K, {"shared": "nowhere"}, r"k_proj' shares the atoms of 'nowhere', which is not there"),
        (K, {"shared": ""}, "which is not there"),
        (K, {"shared": V}, "which are no atoms of its own"),
        (K, {"shared": K}, "which are no atoms of its own"),
        (Q, {"shared": K}, "which are no atoms of its own"),
        (K, {"shared": roles.site(1, "q")}, "does not read the same input"),
        (K, {"shared": GATE}, "does not read the same input"),
        (K, {"shared": roles.EMBEDDING}, "does not read the same input"),
        (roles.EMBEDDING, {"shared": roles.HEAD}, "does not read the same input"),
        (K, {"terms": [{"type": "dictionary", "compression": 0.2}]}, "coded in another way"),
        (K, {"terms": [{"type": "dictionary", "compression": 0.1, "rows": 128}]}, "coded in another way"),
        (K, {"terms": [{"type": "dictionary", "compression": 0.2, "rows": 0}]}, "described wrongly"),
        (K, {"terms": [{"type": "dictionary", "compression": 0.2, "rows": 1 << 60}]}, "described wrongly"),
        (K, {"terms": [{"type": "low_rank", "rank": 4}]}, "not one dictionary"),
        (K, {"order": True}, "not one dictionary without an order"),
        (K, {"activation": {"type": "int", "bits": 8, "symmetric": True}}, "coded in another way"),
        (K, {"shape": [32, 63]}, "its config.json implies"),
        (K, {"shared": None}, "k_proj.terms.0.atoms.value' is missing"),
        (K, {"shared": 3}, "described wrongly"),
        (Q, {"terms": [{"type": "low_rank", "rank": 4}]}, "coded in another way"),
    ],
)
def test_what_refers_to_another_is_checked(
    path: Path, name: str, changes: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(forge(path, sites=described(path, name, **changes)))


def test_atoms_of_another_size_are_refused(path: Path) -> None:
    """All descriptions agree, but the numbers are for fewer rows."""
    fewer = [{"type": "dictionary", "compression": 0.2, "rows": 20}]
    sites = (
        described(path, Q, terms=fewer) | described(path, K, terms=fewer) | described(path, V, terms=fewer)
    )
    assert "is float16" in refusal(forge(path, sites=sites))


def test_atoms_stored_twice_are_refused(model: Checkpoint, path: Path) -> None:
    twice = {f"{K}.terms.{ATOMS}": model.linears[K].state[ATOMS]}
    assert "belongs to nothing" in refusal(forge(path, arrays=twice))


def test_a_model_without_the_owner_is_not_written(model: Checkpoint, tmp_path: Path) -> None:
    alone = dataclasses.replace(tiny_checkpoint("llama-biased").linears[Q])
    with pytest.raises(IntaglioError, match="shares the atoms"):
        write(tmp_path / "a", linears=model.replace({Q: alone}).linears.items())
    assert list(tmp_path.iterdir()) == []

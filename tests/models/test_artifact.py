"""Artifacts: what is written is read; nothing half-written, altered, incomplete or hostile is."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio import terms
from intaglio.errors import IntaglioError, UsageError
from intaglio.formats import Format, Integer, TwoLevel
from intaglio.models import artifact, checksums, open_checkpoint, roles
from intaglio.models.card import front_matter
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.safetensors import Safetensors
from intaglio.models.safetensors_writer import write as write_safetensors
from intaglio.terms import Coded, Dense
from tests.models.hostile import damage
from tests.models.tiny import tiny_checkpoint

WEIGHTS = "model.safetensors"
CARD = b"---\nlicense: mit\nbase_model: org/original\nx: 1\n---\n# It"
FILES = {"tokenizer.json": b"{}", "README.md": CARD, "chat_template.jinja": b"x"}
FORMATS: dict[str, Format] = {
    "q": Integer(bits=4, group_size=16),
    "k": Integer(bits=3, symmetric=True, group_size=32),
    "v": Integer(bits=8, symmetric=True),
    "o": Integer(bits=4),
    "gate": TwoLevel(bits=4, group_size=16),
}


def code(coded: Coded, form: Format) -> Coded:
    w = torch.from_numpy(coded.state["0.value"])
    tables = form.fit(w)
    packed = form.pack(form.encode(w, tables), tables)
    return Coded(
        coded.shape,
        (Dense(form),),
        {f"0.{name}": array for name, array in packed.items()},
        activation=Integer(bits=8, symmetric=True),
        bias=coded.bias,
    )


def linears(model: Checkpoint) -> Iterator[tuple[str, Coded]]:
    forms = {roles.site(layer, role): form for layer in (0, 1) for role, form in FORMATS.items()}
    for name, coded in model.linears.items():
        yield name, code(coded, forms[name]) if name in forms else coded


def write(path: Path, **changes: Any) -> Path:
    model = tiny_checkpoint("llama-biased")
    arguments: dict[str, Any] = {
        "config": model.config,
        "spec": model.spec,
        "linears": linears(model),
        "vectors": model.vectors,
        "files": FILES,
        "recipe_text": "name: mixed\n",
        "report": {
            "model": "org/model",
            "bits_per_weight": 4.5,
            "sites": [{"name": "lm_head", "error": 0.5}],
        },
        "cache": {"bits": 8},
    }
    artifact.write(path, **(arguments | changes))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("artifact") / "a")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a"))


def resum(path: Path) -> Path:
    """Sums that fit what is there now: what a careful forger would write."""
    (path / checksums.SUMS).unlink()
    checksums.write(path)
    return path


def forge(path: Path, arrays: dict[str, Any] | None = None, sites: dict[str, Any] | None = None) -> Path:
    """Arrays and descriptions of sites replaced, with None removed, and everything summed again."""
    file = Safetensors.open(path / WEIGHTS)
    tensors = {name: array.copy() for name, array in file.items()} | (arrays or {})
    metadata = dict(file.metadata) | (sites or {})
    kept = {name: array for name, array in tensors.items() if array is not None}
    write_safetensors(path / WEIGHTS, kept, {k: v for k, v in metadata.items() if v is not None})
    return resum(path)


def edit_config(path: Path, **changes: Any) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))
    return resum(path)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(IntaglioError) as caught:
        read_all(path, **options)
    return str(caught.value)


def read_all(path: Path, **options: Any) -> None:
    opened = artifact.read(path, **options)
    for mapping in (opened.linears, opened.vectors):
        for name in mapping:
            mapping[name]


def test_what_is_written_is_read(whole: Path) -> None:
    expected, found = tiny_checkpoint("llama-biased"), open_checkpoint(whole)
    assert found.spec == expected.spec
    assert found.config["quantization_config"]["cache"] == {"bits": 8}
    for name, coded in linears(expected):
        read = found.linears[name]
        assert (read.shape, read.terms, read.activation) == (coded.shape, coded.terms, coded.activation)
        assert read.state.keys() == coded.state.keys()
        assert all(np.array_equal(read.state[key], array) for key, array in coded.state.items())
        assert (read.bias is None) == (coded.bias is None)
        assert coded.bias is None or np.array_equal(read.bias, coded.bias)
    for name, vector in expected.vectors.items():
        assert np.array_equal(found.vectors[name], vector)
    assert found.nbytes == sum(c.nbytes for _, c in linears(expected)) + sum(
        v.nbytes for v in expected.vectors.values()
    )
    assert found.files["tokenizer.json"] == b"{}"
    assert found.files["recipe.yaml"] == b"name: mixed\n"
    assert json.loads(found.files["report.json"])["model"] == "org/model"


def test_the_directory_is_complete_and_checkable(whole: Path) -> None:
    names = {"config.json", WEIGHTS, "recipe.yaml", "report.json", "README.md", "SHA256SUMS"}
    assert {path.name for path in whole.iterdir()} == names | FILES.keys()
    subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=whole, check=True)
    config = json.loads((whole / "config.json").read_text())["quantization_config"]
    assert config == {"quant_method": "intaglio", "version": 1, "recipe": "mixed", "cache": {"bits": 8}}
    front = front_matter((whole / "README.md").read_bytes())
    assert front["base_model"] == "org/model"
    assert front["base_model_relation"] == "quantized"
    assert front["license"] == "mit"
    assert "x" not in front


def test_the_same_model_is_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "a")
    assert (again / checksums.SUMS).read_bytes() == (whole / checksums.SUMS).read_bytes()
    assert artifact.read(again).fingerprint == artifact.read(whole).fingerprint


def test_shards(whole: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a", max_shard_bytes=30_000)
    assert len(list(path.glob("model-*.safetensors"))) > 2
    one, several = artifact.read(whole), artifact.read(path)
    for name in one.linears:
        for key, array in one.linears[name].state.items():
            assert np.array_equal(array, several.linears[name].state[key])


def test_a_rotation_unties_the_head_and_adds_projections(tmp_path: Path) -> None:
    model = tiny_checkpoint("llama-tied")
    square = Coded((64, 64), model.linears[roles.EMBEDDING].terms, {"0.value": np.eye(64, dtype=np.float32)})
    extra = {roles.EMBED_PROJ: square, roles.HEAD_PROJ: square, roles.HEAD: model.linears[roles.EMBEDDING]}
    everything = [*model.linears.items(), *extra.items()]
    path = write(
        tmp_path / "a", config=model.config, spec=model.spec, linears=everything, vectors=model.vectors
    )
    found = artifact.read(path)
    assert not found.spec.tied
    assert extra.keys() <= set(found.linears)


def test_the_report_may_open_the_artifact_before_it_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def report(directory: Path) -> dict[str, int]:
        assert not path.exists()
        return {"nbytes": artifact.read(directory, verify=False).nbytes}

    write(path, report=report)
    assert json.loads((path / "report.json").read_text()) == {"nbytes": artifact.read(path).nbytes}


def broken_disk(model: Checkpoint, error: BaseException) -> Iterator[tuple[str, Coded]]:
    for i, item in enumerate(linears(model)):
        if i == 5:
            raise error
        yield item


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), IntaglioError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (IntaglioError("layer 2 is broken"), IntaglioError),
    ],
)
def test_a_failure_leaves_nothing(error: BaseException, raised: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(raised) as caught:
        write(tmp_path / "a", linears=broken_disk(tiny_checkpoint("llama-biased"), error))
    if isinstance(error, OSError):
        assert "a could not be written: no space left on device; nothing was left behind" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_refuses_leaves_what_was_there(copy: Path) -> None:
    def report(directory: Path) -> object:
        raise IntaglioError("the result is broken")

    before = (copy / checksums.SUMS).read_bytes()
    with pytest.raises(IntaglioError, match="the result is broken"):
        write(copy, report=report, force=True)
    assert (copy / checksums.SUMS).read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == ["a"]


def test_a_target_that_holds_something_is_kept_unless_forced(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty: choose another output, or --force"):
        write(target)
    assert (target / "notes.txt").read_text() == "mine"
    write(target, force=True)
    assert artifact.read(target).nbytes
    assert not (target / "notes.txt").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        write(tmp_path / "file", force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "file"}


def test_an_incomplete_model_is_not_written(tmp_path: Path) -> None:
    model = tiny_checkpoint("llama-biased")
    some = [item for item in linears(model) if not item[0].endswith("1.mlp.up_proj")]
    with pytest.raises(IntaglioError, match=r"the matrix model\.layers\.1\.mlp\.up_proj is missing"):
        write(tmp_path / "a", linears=some)
    assert list(tmp_path.iterdir()) == []


def test_a_spec_that_the_config_cannot_say_is_not_written(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(tiny_checkpoint("llama-biased").spec, norm_eps=0.5)
    with pytest.raises(IntaglioError, match=r"in a way that its config\.json cannot say"):
        write(tmp_path / "a", spec=spec)


def test_every_altered_file_is_found(whole: Path, tmp_path: Path) -> None:
    for name in sorted(path.name for path in whole.iterdir()):
        copy = Path(shutil.copytree(whole, tmp_path / name))
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 4
        (copy / name).write_bytes(content)
        assert name in refusal(copy)
        (copy / name).unlink()
        assert name in refusal(copy)


def test_a_file_that_was_added_is_found(copy: Path) -> None:
    (copy / "generation_config.json").write_text("{}")
    assert "is not listed in SHA256SUMS" in refusal(copy)


@pytest.mark.parametrize(
    "line", ["x", "0" * 64 + "  ../a", "0" * 64 + "  a/b", "0" * 64 + " config.json", ""]
)
def test_sums_lead_nowhere_else(line: str, copy: Path) -> None:
    (copy / checksums.SUMS).write_text(line + "\n")
    assert "is not the sum of one further file beside it" in refusal(copy)


Q = "model.layers.0.self_attn.q_proj"
GATE = "model.layers.0.mlp.gate_proj"


def site(shape: list[int] | None = None, bits: int = 4, group: int = 16, **more: Any) -> str:
    form = {"type": "int", "bits": bits, "group_size": group} | more
    return json.dumps(
        {"shape": shape or [64, 64], "terms": [{"type": "dense", "format": form}], "bias": True}
    )


@pytest.mark.parametrize(
    ("arrays", "sites", "sentence"),
    [
        ({f"{Q}.terms.0.codes": None}, {}, "tensor .*q_proj.terms.0.codes' is missing"),
        ({f"{Q}.terms.1.codes": np.ones(1, np.uint8)}, {}, "terms.1.codes' belongs to nothing"),
        ({"x": np.ones(1, np.uint8)}, {}, "'x' belongs to nothing"),
        ({f"{Q}.terms.0.codes": np.ones((64, 31), np.uint8)}, {}, r"'0.codes' is uint8 \(64, 31\), expected"),
        ({f"{Q}.terms.0.codes": np.ones((64, 32), np.int8)}, {}, r"'0.codes' is int8"),
        (
            {f"{Q}.terms.0.scale": np.full((64, 4), np.nan, np.float16)},
            {},
            "scale has negative or non-finite",
        ),
        ({f"{Q}.terms.0.scale": np.ones((64, 4), np.float32)}, {}, "'0.scale' is float32"),
        ({f"{Q}.terms.0.zero": np.full((64, 4), 16, np.uint8)}, {}, "zero has values above 15"),
        ({f"{Q}.bias": np.full(64, np.inf, np.float32)}, {}, "bias is"),
        ({f"{Q}.bias": None}, {}, "q_proj.bias' is missing"),
        ({f"{GATE}.terms.0.group_zero": np.full((96, 4), 99, np.uint8)}, {}, "group_zero"),
        ({"model.norm.weight": np.ones(65, np.float32)}, {}, r"model.norm is float32 \(65,\)"),
        ({"model.norm.weight": np.full(64, np.nan, np.float32)}, {}, "expected 64 finite"),
        ({}, {Q: None}, "q_proj is missing"),
        ({}, {Q: "{"}, "q_proj' is described wrongly"),
        ({}, {Q: site(bits=9)}, "is described wrongly"),
        ({}, {Q: site(group=0)}, "is described wrongly"),
        ({}, {Q: site(type="codebook")}, "is described wrongly"),
        ({}, {Q: site(extra=1)}, "is described wrongly"),
        ({}, {Q: site([64, 1 << 40])}, "is described wrongly"),
        ({}, {Q: site([64, -1])}, "is described wrongly"),
        ({}, {Q: site([64, 128])}, r"q_proj is \(64, 128\), its config.json implies \(64, 64\)"),
        ({}, {Q: site(bits=5)}, "'0.codes' is uint8"),
        ({}, {"model.layers.7.self_attn.q_proj": site()}, "has no place in this model"),
        ({}, {Q: "[" * 100000}, "is described wrongly"),
    ],
)
def test_a_forged_file_is_refused(
    arrays: dict[str, Any], sites: dict[str, Any], sentence: str, copy: Path
) -> None:
    with pytest.raises(IntaglioError, match=sentence):
        artifact.read(forge(copy, arrays, sites))
    assert refusal(copy, verify=False)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_other_versions_are_refused(version: Any, copy: Path) -> None:
    edit_config(copy, quantization_config={"quant_method": "intaglio", "version": version})
    assert "this program reads version 1" in refusal(copy)


def test_a_plain_model_is_no_artifact(copy: Path) -> None:
    edit_config(copy, quantization_config=None)
    assert "is not an Intaglio artifact" in refusal(copy)


def test_a_config_of_another_shape_is_refused(copy: Path) -> None:
    edit_config(copy, num_hidden_layers=1024, vocab_size=1 << 22)
    assert "its config.json implies" in refusal(copy)


@cache
def raw(path: Path) -> bytes:
    return path.read_bytes()


@settings(max_examples=150, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_behind_fitting_sums_is_refused_or_harmless(
    data: st.DataObject, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    if not path.exists():
        shutil.copytree(whole, path)
    name = data.draw(st.sampled_from([WEIGHTS, WEIGHTS, "config.json", "SHA256SUMS"]))
    content = raw(whole / name)
    (path / name).write_bytes(data.draw(damage(len(content), header=9000)).apply(content))
    if name != checksums.SUMS:
        resum(path)
    try:
        opened = artifact.read(path)
        assert all(coded.nbytes for coded in opened.linears.values())
    except IntaglioError as error:
        assert "\n" not in str(error)  # noqa: PT017
    finally:
        (path / name).write_bytes(content)
        (path / checksums.SUMS).write_bytes(raw(whole / checksums.SUMS))


def test_the_reader_in_the_documentation_reads_artifacts(whole: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    (code_block,) = [
        block.removeprefix("python\n") for block in text.split("```") if block.startswith("python\n")
    ]
    names: dict[str, Any] = {}
    exec(code_block, names)
    opened = artifact.read(whole)
    for role in ("q", "k", "v", "o"):
        name = roles.site(1, role)
        found = names["matrix"](whole / WEIGHTS, name)
        assert np.allclose(found, terms.decode(opened.linears[name]).numpy(), rtol=1e-6, atol=1e-7)

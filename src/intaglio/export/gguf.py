"""GGUF: the file that llama.cpp and its kin read, by the codes' own numbers or rounded anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.export.affine import affine, grid_of, values
from intaglio.export.blocks import BLOCK, blocks, kind_of
from intaglio.export.exported import Exported, check, layers, left_behind
from intaglio.lazy import lazy
from intaglio.models import gguf_model, roles
from intaglio.models.architectures import architecture
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.durable import check_free, new_file
from intaglio.models.gguf_vocabulary import vocabulary
from intaglio.terms import Coded
from intaglio.types import Array

if TYPE_CHECKING:
    import gguf
else:
    gguf = lazy("gguf", extra="export")

# our architecture -> GGUF's
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
NAMES = {ours: theirs for theirs, ours in {**gguf_model.OUTSIDE, **gguf_model.INSIDE}.items()}
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9}  # general.file_type
FORMAT = "gguf"
Stored = Callable[[str], "tuple[str, Callable[[], Array]]"]  # site -> its kind, and what makes its rows


class Entry(NamedTuple):
    """One tensor of the file; `stored` gives what is written: plain numbers, or rows of blocks."""

    name: str
    shape: tuple[int, ...]
    kind: str
    stored: Callable[[], Array]


def write(checkpoint: Checkpoint, output: Path, *, dense: bool = False, force: bool = False) -> Exported:
    """`output` with every code as it is; matrices that no kind can hold as float16, if `dense`."""
    forms: dict[str, str | None] = {}
    rounded = 0  # matrices whose inputs are, which no file says
    for site in layers(checkpoint):
        coded = checkpoint.linears[site]
        forms[site] = _kind(coded)
        rounded += coded.activation is not None
    check(checkpoint, forms, "GGUF", dense=dense)
    if not force:
        check_free(output, force=False)
    kinds = Counter(kind or "F16" for kind in forms.values())

    def stored(site: str) -> tuple[str, Callable[[], Array]]:
        kind = forms[site] if site in forms else _kind(checkpoint.linears[site])
        return (
            ("F16", _rounded(checkpoint, site, "F16"))
            if kind is None
            else (kind, _kept(checkpoint, site, kind))
        )

    with new_file(output) as temporary:
        _write(checkpoint, temporary, kinds.most_common(1)[0][0], stored)
    return Exported(
        format=FORMAT,
        path=str(output),
        nbytes=output.stat().st_size,
        matrices=dict(kinds),
        notes=left_behind(checkpoint, rounded),
    )


def write_gguf(checkpoint: Checkpoint, path: Path, kind: str = "F16", outside: str | None = None) -> Path:
    """`path` with the layers' matrices rounded to `kind` (a key of FILE_TYPES), embedding and head to
    `outside` (None: as `kind`), the rest float32. One matrix at a time is in memory."""

    def stored(site: str) -> tuple[str, Callable[[], Array]]:
        wanted = (outside or kind) if site in (roles.EMBEDDING, roles.HEAD) else kind
        fitting = _fitting(wanted, checkpoint.linears[site].shape[1])
        return fitting, _rounded(checkpoint, site, fitting)

    _write(checkpoint, path, kind, stored)
    return path


def _write(checkpoint: Checkpoint, path: Path, kind: str, stored: Stored) -> None:
    if fault := refusal(checkpoint):
        raise IntaglioError(f"{checkpoint.name} cannot be written as GGUF: {fault}")
    writer = gguf.GGUFWriter(path, ARCHITECTURES[checkpoint.spec.architecture])
    for key, value in (_keys(checkpoint) | vocabulary(checkpoint)).items():
        _add(writer, key, value)
    writer.add_file_type(FILE_TYPES[kind])
    entries = list(_entries(checkpoint, stored))
    for entry in entries:
        _announce(writer, entry)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for entry in entries:
        writer.write_tensor_data(entry.stored())
    writer.close()


def refusal(checkpoint: Checkpoint) -> str | None:
    """Why this model cannot be written, or None."""
    spec = checkpoint.spec
    if spec.architecture not in ARCHITECTURES:
        return f"it is a {spec.architecture}, written are {', '.join(ARCHITECTURES)}"
    if any(layer.window is not None for layer in spec.layers):
        return "it has a sliding window"
    if len(spec.ropes) != 1 or spec.ropes[0].scale != 1 or spec.ropes[0].dim != spec.head_dim:
        return "a table of factors cannot describe its rotary embedding"
    if {roles.EMBED_PROJ, roles.HEAD_PROJ} & set(checkpoint.linears):
        return "it is rotated; write the model it was made of"
    return None


def _keys(checkpoint: Checkpoint) -> dict[str, Any]:
    spec, name = checkpoint.spec, ARCHITECTURES[checkpoint.spec.architecture]
    keys = {
        "vocab_size": spec.vocab_size,
        "block_count": spec.num_layers,
        "context_length": spec.max_position,
        "embedding_length": spec.hidden_size,
        "feed_forward_length": spec.intermediate_size,
        "attention.head_count": spec.num_heads,
        "attention.head_count_kv": spec.num_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": float(spec.norm_eps),
        "rope.dimension_count": spec.head_dim,
        "rope.freq_base": _theta(checkpoint.config),
    }
    return {"general.name": Path(checkpoint.name).name} | {f"{name}.{k}": v for k, v in keys.items()}


def _theta(config: Mapping[str, Any]) -> float:
    """The rotary base; where a config hides it, the factors put another one right."""
    parameters = config.get("rope_parameters") or {}
    return float(parameters.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def _factors(checkpoint: Checkpoint) -> Array | None:
    """What the base's frequencies are divided by: float32 (head_dim / 2,), None where nothing is."""
    rope = checkpoint.spec.ropes[0]
    plain = _theta(checkpoint.config) ** -(np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim)
    factors = plain / np.asarray(rope.inv_freq, np.float64)
    return None if np.allclose(factors, 1, rtol=1e-5) else factors.astype(np.float32)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case str():
            writer.add_string(key, value)
        case float():
            writer.add_float32(key, value)
        case int():
            writer.add_uint32(key, value)
        case _:
            writer.add_array(key, value)


def _entries(checkpoint: Checkpoint, stored: Stored) -> Iterator[Entry]:
    """Every tensor, in the order of the architecture's sources."""
    if (factors := _factors(checkpoint)) is not None:
        yield Entry("rope_freqs.weight", factors.shape, "F32", lambda: factors)
    for ours, part in architecture(checkpoint.config).sources(checkpoint.spec, checkpoint.config).items():
        site, _, what = ours.rpartition(".")
        name = _name(part.name)
        if site in checkpoint.vectors or what == "bias":
            values = _vector(checkpoint, site, what)
            yield Entry(name, values.shape, "F32", lambda v=values: v)  # type: ignore[misc]
        else:
            yield Entry(name, checkpoint.linears[site].shape, *stored(site))


def _vector(checkpoint: Checkpoint, site: str, what: str) -> Array:
    """A norm's gain or a matrix's bias."""
    if what == "weight":
        return checkpoint.vectors[site]
    bias = checkpoint.linears[site].bias
    assert bias is not None, f"{site} has no bias"
    return _interleaved(checkpoint, site, bias)


def _kind(coded: Coded) -> str | None:
    """The kind whose blocks hold a matrix's codes."""
    grid = grid_of(coded)
    return grid and kind_of(grid, coded.shape[1])


def _kept(checkpoint: Checkpoint, site: str, kind: str) -> Callable[[], Array]:
    """Its codes, in blocks."""

    def stored() -> Array:
        found = affine(checkpoint.linears[site])
        return blocks(found.rows(_interleaved(checkpoint, site, np.arange(len(found.codes)))), kind)

    return stored


def _rounded(checkpoint: Checkpoint, site: str, kind: str) -> Callable[[], Array]:
    """Its values, rounded."""

    def stored() -> Array:
        numbers = _interleaved(checkpoint, site, values(checkpoint.linears[site]))
        return np.asarray(
            gguf.quants.quantize(np.ascontiguousarray(numbers, np.float32), gguf.GGMLQuantizationType[kind])
        )

    return stored


def _interleaved(checkpoint: Checkpoint, site: str, values: Array) -> Array:
    """q and k with the halves of each head's rows interleaved, where llama.cpp rotates neighbours."""
    spec = checkpoint.spec
    heads = {roles.LINEARS["q"]: spec.num_heads, roles.LINEARS["k"]: spec.num_kv_heads}
    count = heads.get(".".join(site.split(".")[-2:]))
    if count is None or ARCHITECTURES[spec.architecture] not in gguf_model.INTERLEAVED:
        return values
    return values.reshape(count, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _fitting(kind: str, width: int) -> str:
    """Rows that blocks do not divide are stored as halves."""
    return kind if kind in ("F32", "F16") or width % BLOCK == 0 else "F16"


def _announce(writer: gguf.GGUFWriter, entry: Entry) -> None:
    kind = gguf.GGMLQuantizationType[entry.kind]
    elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
    width = entry.shape[-1] // elements * nbytes
    plain = {"F32": np.float32, "F16": np.float16}.get(entry.kind)
    stored = entry.shape if plain else (*entry.shape[:-1], width)  # blocks are announced by their bytes
    size = int(np.prod(entry.shape[:-1], dtype=np.int64)) * width
    writer.add_tensor_info(entry.name, stored, np.dtype(plain or np.uint8), size, raw_dtype=kind)


def _name(theirs: str) -> str:
    """Hugging Face's name -> GGUF's."""
    stem, _, kind = theirs.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"

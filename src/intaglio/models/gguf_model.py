"""A GGUF file as a plain model: its tensors under Hugging Face's names, its rotary rows put back in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from intaglio.errors import IntaglioError
from intaglio.formats import Format
from intaglio.models import card, gguf_config, gguf_tokenizer, plain
from intaglio.models.architectures import spec_from_config
from intaglio.models.checkpoint import Checkpoint, Lazy
from intaglio.models.checksums import hash_files
from intaglio.models.gguf import Gguf
from intaglio.models.huggingface_dir import fingerprint
from intaglio.models.spec import ModelSpec
from intaglio.types import Array, State

OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# where an architecture's name means something else
DIFFERENT = {
    "gemma2": {"ffn_norm": "pre_feedforward_layernorm"},
    "gemma3": {"ffn_norm": "pre_feedforward_layernorm"},
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
}
# their q and k rows are stored for a rotary embedding of neighbouring channels: (0, d/2, 1, d/2 + 1, …)
INTERLEAVED = ("llama", "smollm3", "granite")
FACTORS = (
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
)  # in the config instead


def open_gguf(
    path: Path, dtype: plain.Dtype | None = None, *, name: str | None = None, model: str | None = None
) -> Checkpoint:
    """The model in `path`, its hub id `model`; numbers in blocks become float32 unless `dtype` is given."""
    file = Gguf.open(path)
    if file.metadata.get("split.count", 1) not in (0, 1):
        raise IntaglioError(f"{path}: is one part of several: join them first, with llama-gguf-split --merge")
    config = gguf_config.config(file)
    return plain.checkpoint(
        name or str(path),
        config,
        GgufTensors(file, spec_from_config(config)),
        files=Lazy(_files(file, model)),
        identify=lambda: fingerprint(config, hash_files([path]), dtype),
        dtype=dtype,
        gains_whole=True,
    )


def _files(file: Gguf, model: str | None) -> dict[str, Callable[[], bytes]]:
    """The tokenizer's files, and a card that carries the licence on."""
    return {**gguf_tokenizer.readers(file), "README.md": lambda: card.of_gguf(file.metadata, model)}


class GgufTensors:
    """The tensors of a file under Hugging Face's names, decoded when read."""

    def __init__(self, file: Gguf, spec: ModelSpec) -> None:
        self._file = file
        architecture = str(file.metadata["general.architecture"])
        self._names = {_name(architecture, name): name for name in file.tensors if name not in FACTORS}
        if len(self._names) + sum(name in FACTORS for name in file.tensors) != len(file.tensors):
            raise IntaglioError(f"{file.path}: two of its tensors stand for the same weights")
        self._heads = _interleaved_heads(architecture, spec)
        self.shapes = {ours: file.tensors[theirs].shape for ours, theirs in self._names.items()}
        self.nbytes = sum(tensor.nbytes for tensor in file.tensors.values())

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """The values, all or some rows; q and k in Hugging Face's order."""
        values = self._file.read(self._names[name], rows)
        heads = self._heads.get(name.split(".")[-2])
        if heads is None:
            return values
        assert rows is None  # no architecture both interleaves and fuses
        return values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)

    def coded(self, name: str, rows: tuple[int, int] | None) -> tuple[Format, State] | None:
        """Q8_0 as `Integer`: the same scales and codes. None for what is decoded: other types, q and k."""
        if name.split(".")[-2] in self._heads:
            return None
        return self._file.integers(self._names[name], rows)


def _interleaved_heads(architecture: str, spec: ModelSpec) -> dict[str, int]:
    return {"q_proj": spec.num_heads, "k_proj": spec.num_kv_heads} if architecture in INTERLEAVED else {}


def _name(architecture: str, name: str) -> str:
    """Hugging Face's name of a tensor; one that is unknown keeps its own, and is refused as unused."""
    stem, _, kind = name.rpartition(".")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    found = re.fullmatch(r"blk\.(\d{1,4})\.([a-z_]+)", stem)
    known = {**INSIDE, **DIFFERENT.get(architecture, {})}
    if not found or found[2] not in known:
        return name
    return f"model.layers.{int(found[1])}.{known[found[2]]}.{kind}"

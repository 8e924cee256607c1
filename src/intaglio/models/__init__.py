"""One transformer, architectures as data: load, save, observe.

`open_checkpoint(ref)` takes a directory (Hugging Face's layout or ours), a .gguf file, a hub id, or
`smollm2-135m`, which a package carries.
"""

from __future__ import annotations

from pathlib import Path

from intaglio.errors import UsageError
from intaglio.models import artifact, hub, json_text, packaged
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.huggingface_dir import CONFIG, open_directory
from intaglio.models.plain import Dtype

__all__ = ["Checkpoint", "open_checkpoint"]


def open_checkpoint(ref: str | Path, *, dtype: Dtype | None = None) -> Checkpoint:
    """The model that `ref` names. `dtype` converts plain weights; None keeps them as stored."""
    path = Path(ref)
    if path.is_dir():
        return _directory(path, dtype)
    if path.is_file():
        return _file(path, dtype)
    if str(ref) in packaged.PACKAGED:
        model = packaged.PACKAGED[str(ref)].model
        return _gguf(packaged.find(str(ref)), dtype, name=str(ref), model=model)
    if hub.is_id(str(ref)):
        return _directory(hub.download(str(ref)), dtype)
    raise UsageError(
        f"no model at {ref}: expected a directory with {CONFIG}, a .gguf file, a hub id like org/name, "
        f"or one of {', '.join(packaged.PACKAGED)}"
    )


def _directory(path: Path, dtype: Dtype | None) -> Checkpoint:
    if not (path / CONFIG).is_file():
        raise UsageError(
            f"{path} holds no {CONFIG}: a model directory has one, in Hugging Face's layout or ours"
        )
    config = json_text.read_object(path / CONFIG)
    if artifact.is_artifact(config):
        return artifact.read(path)
    return open_directory(path, config, dtype)


def _file(path: Path, dtype: Dtype | None) -> Checkpoint:
    if path.suffix != ".gguf":
        raise UsageError(
            f"{path}: a model file must end in .gguf; safetensors need their directory with {CONFIG}"
        )
    return _gguf(path, dtype)


def _gguf(path: Path, dtype: Dtype | None, **names: str | None) -> Checkpoint:
    from intaglio.models.gguf_model import open_gguf  # not imported to run what is no .gguf file

    return open_gguf(path, dtype, **names)

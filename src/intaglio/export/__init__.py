"""Writes compressed models in the formats of other programs: codes as they are, nothing rounded twice."""

from __future__ import annotations

from pathlib import Path

from intaglio.errors import UsageError
from intaglio.export import compressed_tensors, gguf
from intaglio.export.exported import Exported
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint

__all__ = ["FORMATS", "Exported", "export"]

FORMATS = (compressed_tensors.FORMAT, gguf.FORMAT)


def export(
    model: str | Path | Checkpoint,
    output: str | Path,
    format: str = compressed_tensors.FORMAT,
    *,
    dtype: str = "float16",
    dense: bool = False,
    force: bool = False,
) -> Exported:
    """`model` in `format`, one of FORMATS: a directory for vLLM and transformers, a file for llama.cpp.

    `dtype`: of scales and of what is not coded, in compressed-tensors; GGUF's are fixed. `dense`: matrices
    that the format has no codes for become plain numbers; otherwise they are refused. `force`: replace
    `output`.
    """
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}, it must be one of {', '.join(FORMATS)}")
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(str(model))
    target = Path(output)
    if format == gguf.FORMAT:
        return gguf.write(checkpoint, target, dense=dense, force=force)
    return compressed_tensors.write(checkpoint, target, dtype=dtype, dense=dense, force=force)

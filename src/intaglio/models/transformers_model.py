"""A checkpoint of any source as a transformers module, so that plain models are measured by the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats.arrays import to_torch
from intaglio.lazy import lazy
from intaglio.models import roles
from intaglio.models.architectures import Part, architecture

if TYPE_CHECKING:
    import torch
    import transformers
    from transformers import initialization

    from intaglio.models.checkpoint import Checkpoint
    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")
    transformers = lazy("transformers", extra="compress")
    initialization = lazy("transformers.initialization", extra="compress")


def transformers_model(checkpoint: Checkpoint, *, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """The architecture's own class with the checkpoint's weights decoded, in eval mode; float32 unless told.

    Projections that a rotation put beside the embedding and the head are multiplied into them.
    """
    dtype = dtype or torch.float32
    config = _config(checkpoint, dtype)
    with initialization.no_init_weights():
        model = getattr(transformers, checkpoint.spec.architecture)(config)
    missing, unexpected = model.load_state_dict(_state(checkpoint, dtype), strict=False, assign=True)
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    if unexpected or missing not in ([], tied):
        names = ", ".join([*unexpected, *missing][:3])
        raise IntaglioError(f"{checkpoint.name}: {type(model).__name__} and this model differ in {names}")
    model.tie_weights()
    return model.requires_grad_(False).eval()  # type: ignore[no-any-return]


def _config(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """transformers' own config object, untied where the checkpoint has a head of its own."""
    values = copy.deepcopy(dict(checkpoint.config))  # config classes write into the dicts they are given
    for name in ("quantization_config", "torch_dtype", "model_type"):
        values.pop(name, None)
    values |= {"dtype": dtype, "tie_word_embeddings": roles.HEAD not in checkpoint.linears}
    return transformers.CONFIG_MAPPING[architecture(checkpoint.config).model_type](**values)


def _state(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors under the names of the architecture's files: stacked and offset as they are there."""
    spec = msgspec.structs.replace(checkpoint.spec, tied=roles.HEAD not in checkpoint.linears)
    sources = architecture(checkpoint.config).sources(spec, checkpoint.config)
    _refuse_new_biases(checkpoint, sources)
    pieces: dict[str, list[Tensor]] = {}
    for name, part in sources.items():
        pieces.setdefault(part.name, []).append((_tensor(checkpoint, name) - part.add).to(dtype))
    return {name: torch.cat(stacked) if len(stacked) > 1 else stacked[0] for name, stacked in pieces.items()}


def _refuse_new_biases(checkpoint: Checkpoint, sources: Mapping[str, Part]) -> None:
    for name, coded in checkpoint.linears.items():
        if coded.bias is not None and f"{name}.bias" not in sources:
            raise IntaglioError(f"{checkpoint.name}: {name} has a bias, which transformers has no place for")


def _tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    """The canonical tensor `name`, float32."""
    site, _, kind = name.rpartition(".")
    if site in checkpoint.vectors:
        return to_torch(checkpoint.vectors[site])
    coded = checkpoint.linears[site]
    if kind == "bias":
        assert coded.bias is not None, f"{site} has no bias"
        return to_torch(coded.bias)
    beside = {roles.EMBEDDING: roles.EMBED_PROJ, roles.HEAD: roles.HEAD_PROJ}.get(site)
    w = terms.decode(coded)
    if beside is None or beside not in checkpoint.linears:
        return w
    projection = terms.decode(checkpoint.linears[beside])  # (hidden, hidden)
    return w @ (projection.mT if site == roles.EMBEDDING else projection)

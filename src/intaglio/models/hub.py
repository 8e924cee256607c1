"""Models on the Hugging Face hub, fetched through huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.models.huggingface_dir import FILES

if TYPE_CHECKING:
    import huggingface_hub
    from huggingface_hub import errors as hub_errors
else:
    huggingface_hub = lazy("huggingface_hub", extra="compress")
    hub_errors = lazy("huggingface_hub.errors", extra="compress")

WANTED = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "recipe.yaml",
    "report.json",
    "SHA256SUMS",
    *FILES,
]


def is_id(ref: str) -> bool:
    """Whether `ref` reads as `organisation/name`."""
    part = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    return re.fullmatch(f"{part}/{part}", ref) is not None


def download(ref: str) -> Path:
    """The directory of the model's snapshot, in the hub's own cache."""
    fetch = huggingface_hub.snapshot_download  # an absent library is found here, before its exceptions are
    try:
        return Path(fetch(ref, allow_patterns=WANTED))
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled):
        raise IntaglioError(
            f"{ref} is not in the local hub cache, and the hub cannot be reached: "
            f"give a local directory or .gguf file, or unset HF_HUB_OFFLINE and check the network"
        ) from None
    except (hub_errors.HfHubHTTPError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise IntaglioError(f"{ref} could not be fetched from the hub: {first}") from None

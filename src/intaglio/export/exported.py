"""What was written in another program's format, what was not, and when nothing is."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from intaglio.errors import UsageError
from intaglio.models import artifact, roles, scheme
from intaglio.models.checkpoint import Checkpoint

FITTING = "rtn-w4, gptq-w4 and awq-w4"  # recipes that fit every format here


class Exported(msgspec.Struct, frozen=True):
    """`matrices`: how many there are of each form; `notes`: sentences on what of the model stayed behind."""

    format: str
    path: str
    nbytes: int
    matrices: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """For people, in a few lines."""
        forms = ", ".join(f"{count} {form}" for form, count in self.matrices.items())
        return "\n".join([f"{self.path}: {self.nbytes / 1e6:.1f} MB, {forms}", *self.notes])


def layers(checkpoint: Checkpoint) -> list[str]:
    """The matrices in the layers, by name."""
    return [site for site in checkpoint.linears if site.startswith("model.layers.")]


def check(checkpoint: Checkpoint, forms: Mapping[str, object], target: str, *, dense: bool) -> None:
    """Refuses what `target` cannot say. `forms`: of the layers' matrices, None without codes, if `dense`."""
    if not checkpoint.linears.keys().isdisjoint({roles.EMBED_PROJ, roles.HEAD_PROJ}):
        raise UsageError(
            f"{checkpoint.name} is rotated, which {target} cannot say: compress without that "
            f"(--set transforms.rotate.enabled=false), or with {FITTING}"
        )
    without = [site for site, form in forms.items() if form is None]
    if without and not dense:
        kind = scheme.of(checkpoint.linears[without[0]])
        raise UsageError(
            f"{target} has no codes for {len(without)} of {len(forms)} matrices, as for {without[0]}"
            f" ({kind}): --dense writes them as plain numbers; {FITTING} need none"
        )


def left_behind(checkpoint: Checkpoint, rounded: int) -> tuple[str, ...]:
    """What the weights alone do not say; `rounded`: matrices whose inputs are rounded here, and not there."""
    notes = []
    if rounded:
        notes.append(f"{rounded} matrices read float inputs there; here these are rounded to few bits")
    bits = (artifact.quantization(checkpoint.config).get("cache") or {}).get("bits", 16)
    if bits < 16:
        notes.append(f"keys and values are as that program keeps them; here they take {bits} bits")
    return tuple(notes)

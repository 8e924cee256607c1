"""The report: what a run did, what it left out and why, and what it cost. Stored as report.json."""

from __future__ import annotations

import platform
from importlib import metadata

import msgspec

import intaglio


class TransformReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a transform was carried out; `reason` when it was not, or only in part."""

    type: str
    applied: bool
    reason: str | None = None


class SiteReport(msgspec.Struct, frozen=True, kw_only=True):
    """One coded matrix. `error`: of its output on the calibration text, as a share of the output's power
    (of the weights, where nothing was observed; of the weights, each times its Fisher information, where that
    is the metric), before any training. `notes`: what the solver measured, and of its block, where that was
    trained, the error of the output before and after.
    """

    name: str
    bits_per_weight: float
    error: float
    notes: dict[str, float]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the model was coded."""

    targeted: int
    coded: int
    share: float  # of all parameters
    left: tuple[str, ...]  # what stays as it was
    added: tuple[str, ...] = ()  # matrices that a transform made

    def __str__(self) -> str:
        left = f"; left as they are: {', '.join(self.left)}" if self.left else ""
        added = f"; added: {', '.join(self.added)}" if self.added else ""
        return f"{self.coded}/{self.targeted} linears, {self.share:.0%} of parameters{left}{added}"


class CalibrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What text the run saw."""

    text: str
    fingerprint: str
    windows: int
    seq_len: int
    seed: int


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The artifact as read back and run natively, beside the original, on held-out windows."""

    perplexity: float
    original_perplexity: float
    kl_mean: float
    kl_max: float
    top1_agreement: float
    windows: int
    seq_len: int
    text: str
    fault: str | None = None  # why the result counts as broken


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one run; it is the same whenever the run is repeated, but for `seconds`."""

    model: str
    recipe: str
    versions: dict[str, str]
    transforms: tuple[TransformReport, ...]
    calibration: CalibrationReport | None
    coverage: Coverage
    sites: tuple[SiteReport, ...]
    bits_per_weight: float  # all stored bytes over all parameters
    original_bits_per_weight: float
    nbytes: int
    verification: Verification
    seconds: float | None = None  # of this run; not stored

    def summary(self) -> str:
        """What a person wants to read at the end."""
        lines = [
            str(self.coverage),
            f"{self.bits_per_weight:.2f} bits per weight, {self.nbytes / 1e6:.1f} MB",
        ]
        lines += [
            f"{'in part' if t.applied else 'left out'} {t.type}: {t.reason}"
            for t in self.transforms
            if t.reason
        ]
        v = self.verification
        lines.append(
            f"perplexity {v.original_perplexity:.2f} -> {v.perplexity:.2f}, KL {v.kl_mean:.4f} "
            f"(max {v.kl_max:.2f}), top-1 agreement {v.top1_agreement:.1%} on {v.windows} held-out windows"
        )
        return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of what the bytes of a result may depend on."""
    packages = {name: metadata.version(name) for name in ("numpy", "torch", "tokenizers")}
    return {"intaglio": intaglio.__version__, "python": platform.python_version(), **packages}

"""The plan of a run, made and checked before any work: what is done to which part, and why not."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.compression.blocks import Coding
from intaglio.compression.report import TransformReport
from intaglio.errors import UsageError
from intaglio.formats import Floating
from intaglio.models.checkpoint import Checkpoint, check_finite
from intaglio.recipe import Recipe, assign, sites
from intaglio.transforms import Transform


@dataclass(frozen=True)
class Plan:
    """A recipe, as it will be carried out on one model."""

    checkpoint: Checkpoint
    recipe: Recipe
    coding: Coding
    transforms: tuple[TransformReport, ...]


def make(checkpoint: Checkpoint, recipe: Recipe) -> Plan:
    """What the recipe means for the model; a transform that cannot keep its function is left out."""
    rules = assign(recipe, sites(checkpoint.spec))
    if not rules:
        raise UsageError(f"recipe {recipe.name} codes no matrix of {checkpoint.name}: no rule has terms")
    reports = tuple(_examined(transform, checkpoint) for transform in recipe.transforms)
    applied = tuple(t for t, report in zip(recipe.transforms, reports, strict=True) if report.applied)
    if applied and any(rule.metric == "fisher" for rule in rules.values()):
        raise UsageError(
            f"recipe {recipe.name}: metric fisher is of the weights as they came, "
            f"and {applied[0].__struct_config__.tag} changes them: use one without the other"
        )
    rest = Floating(recipe.rest) if recipe.rest else None
    coding = Coding(checkpoint.spec, applied, rules, recipe.cache, recipe.propagate == "quantized", rest)
    return Plan(checkpoint, recipe, coding, reports)


def check_weights(checkpoint: Checkpoint) -> None:
    """The model is no compressed one, and every weight is finite; the tensor that is not is named."""
    if "quantization_config" in checkpoint.config:
        raise UsageError(f"{checkpoint.name} is compressed already: give the model it was made from")
    for name, coded in checkpoint.linears.items():
        for array in coded.state.values():
            check_finite(array, name)
        if coded.bias is not None:
            check_finite(coded.bias, f"{name}.bias")
    for name, vector in checkpoint.vectors.items():
        check_finite(vector, name)


def _examined(transform: Transform, checkpoint: Checkpoint) -> TransformReport:
    spec, tag = checkpoint.spec, str(transform.__struct_config__.tag)
    if reason := transform.refuses(spec) if transform.enabled else "switched off":
        return TransformReport(type=tag, applied=False, reason=reason)
    return TransformReport(type=tag, applied=True, reason=transform.omits(spec))

"""Verification: the artifact, read back and run natively, beside its original on held-out text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from msgspec import structs

from intaglio.compression.calibration import cut
from intaglio.compression.report import Coverage, Verification
from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.models import roles, texts
from intaglio.models.checkpoint import Checkpoint
from intaglio.recipe import Limits, Rule
from intaglio.terms import Dictionary, Term
from intaglio.types import Array

WINDOWS, SEQ_LEN = 4, 256  # enough to tell a broken model, in seconds


def verify(original: Checkpoint, coded: Checkpoint, limits: Limits, threads: int | None) -> Verification:
    """Both models on the same windows of the evaluation text, none of which calibrated."""
    seq_len = min(SEQ_LEN, original.spec.max_position)
    windows = cut(original, [texts.evaluation_text()], seq_len, "the evaluation text")[:WINDOWS]
    base, candidate = (Executor(one, threads=threads, max_context=seq_len) for one in (original, coded))
    rows = [_compare(base.logits(w)[:-1], candidate.logits(w)[:-1], w[1:]) for w in windows]
    nll, original_nll, kl, same = (np.concatenate(column) for column in zip(*rows, strict=True))
    found = Verification(
        perplexity=_perplexity(nll),
        original_perplexity=_perplexity(original_nll),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        top1_agreement=float(same.mean()),
        windows=len(windows),
        seq_len=seq_len,
        text=texts.DEFAULT,
    )
    return structs.replace(found, fault=fault(found, limits))


def fault(found: Verification, limits: Limits) -> str | None:
    """Why the result counts as broken, or None."""
    if not math.isfinite(found.perplexity) or not math.isfinite(found.kl_mean):
        return "its logits are not finite"
    if found.kl_mean > limits.kl:
        return (
            f"its mean KL from the original is {found.kl_mean:.2f}, above the recipe's limit of {limits.kl:g}"
        )
    if found.perplexity > limits.perplexity * found.original_perplexity:
        return (
            f"its perplexity is {found.perplexity:.1f}, more than {limits.perplexity:g} times "
            f"the original's {found.original_perplexity:.1f}"
        )
    return None


def parameters(checkpoint: Checkpoint) -> int:
    """How many numbers the model has."""
    matrices = (checkpoint.linears[name].shape for name in checkpoint.linears)
    return sum(rows * cols for rows, cols in matrices) + sum(v.size for v in checkpoint.vectors.values())


def coverage(original: Checkpoint, coded: Checkpoint, rules: Mapping[str, Rule]) -> Coverage:
    """What was coded, in the artifact as it was read back, and what stays as it was."""
    shapes = {name: coded.linears[name].shape for name in coded.linears}
    done = {
        name
        for name in rules
        if name in shapes and _alone(coded.linears[name].terms) == _alone(rules[name].terms)
    }
    return Coverage(
        targeted=len(rules),
        coded=len(done),
        share=sum(math.prod(shapes[name]) for name in done) / parameters(original),
        left=(*_kinds(original.spec.tied, [name for name in original.linears if name not in done]), "norms"),
        added=tuple(sorted(_kinds(original.spec.tied, shapes.keys() - original.linears.keys()))),
    )


def _alone(terms: Iterable[Term]) -> list[Term]:
    """The same without what says how many rows share a dictionary, which no rule does."""
    return [structs.replace(term, rows=None) if isinstance(term, Dictionary) else term for term in terms]


def _kinds(tied: bool, names: Iterable[str]) -> Iterator[str]:
    """Matrices in few words: those of one role in all layers together."""
    words = {roles.EMBEDDING: "embedding (tied)" if tied else "embedding"}
    words |= {name: role for role, name in roles.LINEARS.items()}
    kinds = Counter(name.split(".", 3)[-1] if name.startswith("model.layers.") else name for name in names)
    for name, count in kinds.items():
        word = words.get(name, name.removeprefix("model."))
        yield f"{count} {word}" if name in roles.LINEARS.values() else word


def _compare(base: Array, candidate: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
    """Of each token: both models' negative log likelihood, their divergence, whether they agree."""
    return (
        score.nll(candidate, targets),
        score.nll(base, targets),
        score.kl(base, candidate),
        score.top1(base, candidate),
    )


def _perplexity(nll: Array) -> float:
    mean = float(nll.mean())
    return math.exp(mean) if mean < 700 else math.inf

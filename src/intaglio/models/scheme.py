"""Scheme: in short words, how a checkpoint's numbers are stored, and how many bits that is a weight."""

from __future__ import annotations

from collections import Counter

from intaglio.formats import (
    NM,
    Activation,
    Bilevel,
    Bsr,
    Floating,
    Integer,
    Largest,
    Layout,
    Mixed,
    Trits,
    TwoLevel,
)
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded, Term

ADDED = (roles.EMBED_PROJ, roles.HEAD_PROJ)  # made by a rotation, no parameters of the original
KV = {32: "fp32", 16: "fp16", 8: "int8", 4: "int4"}


def label(layout: Layout) -> str:
    """`int4 g64`, `int4 g64 two-level`, `int4 g64 + 1 int8` (the groups kept), `2:4 float16`, `csr`."""
    match layout:
        case Floating():
            return layout.dtype
        case TwoLevel():
            return f"int{layout.bits} g{layout.group_size} two-level"
        case Bilevel():
            return f"int{layout.bits} g{layout.group_size} bilevel"
        case Integer():
            group = f"g{layout.group_size}" if layout.group_size else "channel"
            zero = " symmetric" if layout.symmetric else " float zero" if layout.zero == "float16" else ""
            return f"int{layout.bits} {group}{zero}"
        case Bsr():
            return f"{'float' if layout.bits == 16 else 'int'}{layout.bits} g{layout.group_size} sparse"
        case NM():
            return f"{layout.n}:{layout.m} {layout.value}"
        case Trits():
            return f"{layout.planes} trits g{layout.group_size}"
        case Mixed():
            kept = f" + {layout.kept} int{layout.kept_bits}" if layout.kept else ""
            return f"int{layout.bits} g{layout.group_size}{kept}"
        case _:
            return str(layout.__struct_config__.tag)


def of_term(term: Term, shape: tuple[int, int]) -> str:
    """`int4 g64`; of others their name and what they are made of: `low_rank 64 (int8 channel)`."""
    factors = term.factors(shape)
    if len(factors) == 1:
        return label(factors[0].layout)
    layouts = dict.fromkeys(label(factor.layout) for factor in factors)
    inner = " x ".join(str(factor.shape[0]) for factor in factors[:-1])
    return f"{term.__struct_config__.tag} {inner} ({', '.join(layouts)})"


def of(coded: Coded) -> str:
    """Weights x activations of one matrix: `int4 g64 x float`."""
    weights = " + ".join(of_term(term, coded.shape) for term in coded.terms)
    return f"{weights} x {of_input(coded.activation)}"


def of_input(activation: Activation | None) -> str:
    """`float`, `int8`, `int4 g64 + 1 int8`, `2:4`."""
    match activation:
        case None:
            return "float"
        case Largest(n=n, m=m):
            return f"{n}:{m}"
        case grid:
            return label(grid) if grid.group_size else f"int{grid.bits}"


def summary(checkpoint: Checkpoint, kv_bits: int) -> str:
    """What most of the layers' weights are, and how keys and values are kept."""
    sizes: Counter[str] = Counter()
    for layer in range(checkpoint.spec.num_layers):
        for role in roles.LINEARS:
            coded = checkpoint.linears[roles.site(layer, role)]
            sizes[of(coded)] += coded.shape[0] * coded.shape[1]
    (most, _), *others = sizes.most_common()
    return f"{most}{' and others' if others else ''}, kv {KV[kv_bits]}"


def parameters(checkpoint: Checkpoint) -> int:
    """Weights of the original: every matrix, bias and norm, without what a rotation added."""
    linears = {name: coded for name, coded in checkpoint.linears.items() if name not in ADDED}
    matrices = sum(coded.shape[0] * coded.shape[1] for coded in linears.values())
    biases = sum(coded.bias.size for coded in linears.values() if coded.bias is not None)
    return matrices + biases + sum(vector.size for vector in checkpoint.vectors.values())


def bits_per_weight(checkpoint: Checkpoint, original: int) -> float:
    """All stored bytes of the weights over the parameters of the original."""
    return 8 * checkpoint.nbytes / original

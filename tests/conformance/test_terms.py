"""What every term must be: stored as declared, refused when broken, run by the executor as it is defined."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from intaglio import _native, terms
from intaglio.attention import Half
from intaglio.errors import IntaglioError
from intaglio.formats import Bilevel, Floating, Format, Integer, Mixed
from intaglio.kernels import cpu
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.site import arrays, of
from intaglio.solvers import Greedy
from intaglio.terms import (
    NM,
    Codebook,
    Coded,
    Dense,
    DenseSparse,
    Dictionary,
    GroupSparse,
    LowRank,
    Metric,
    Outliers,
    Sparse,
    Term,
    TritPlanes,
)
from tests.engine.small import A8, plain, reference_logits, relative, run_logits
from tests.kernels.matrices import rounding_bound

EXAMPLES: list[tuple[Term, ...]] = [
    (Outliers(0.05),),
    (Dense(Mixed(4, group_size=16, clip=0.85)),),
    (Dense(Mixed(4, group_size=32, kept=2, rows=2)), Outliers(0.02)),
    (LowRank(5),),
    (LowRank(8, Integer(8, symmetric=True)),),
    (GroupSparse(0.5),),
    (GroupSparse(0.3, bits=3, group_size=24),),
    (GroupSparse(0.5, bits=16, group_size=32),),
    (GroupSparse(0.5), LowRank(4)),
    (LowRank(compression=0.3),),
    (Dictionary(0.2),),
    (Dictionary(0.5, rho=8, bits=16),),
    (DenseSparse(0.3, width=16, basis=8),),
    (DenseSparse(0.5, width=24, basis=40, bits=14), LowRank(2)),
    (DenseSparse(0.3, width=200, basis=8),),
    (DenseSparse(0.5, width=24, basis=40, per_bin=4),),
    (DenseSparse(0.6, width=200, basis=30, bits=14, per_bin=3),),
    (Dense(Integer(3, group_size=16)), Outliers(0.02)),
    (Codebook(2),),
    (Codebook(3),),
    (Outliers(0.02), Codebook(4)),
    (Dense(Bilevel()), Outliers(0.02)),
    (Sparse(0.5),),
    (NM(2, 4),),
    (NM(8, 16), NM(1, 16)),
    (NM(4, 8), NM(2, 8)),
    (NM(3, 4, "int8"), NM(1, 8, "int8")),
    (Dense(Integer(3, group_size=32)), LowRank(6), Outliers(0.01)),
    (TritPlanes(2, group_size=64),),
    (TritPlanes(1, group_size=7), TritPlanes(3, group_size=200)),
    (Dense(Integer(3, group_size=64, zero="float16")), LowRank(8, Integer(3, symmetric=True, group_size=64))),
]
SHAPES = [(1, 1), (5, 67), (33, 128), (17, 65)]


def found(sum_: tuple[Term, ...], shape: tuple[int, int], activation: Integer | None = None) -> Coded:
    gen = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(200, shape[1], generator=gen)
    return Greedy().solve(
        torch.randn(shape, generator=gen), sum_, Metric(x.T @ x / len(x)), activation=activation
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sum_", EXAMPLES, ids=repr)
class TestTerm:
    def test_is_stored_as_declared(self, sum_: tuple[Term, ...], shape: tuple[int, int]) -> None:
        coded = found(sum_, shape)
        terms.validate(coded)
        assert of(coded).tensors("site") == set(arrays("site", coded))
        assert msgspec.yaml.decode(msgspec.yaml.encode(sum_), type=tuple[Term, ...]) == sum_

    def test_a_cut_array_is_refused(self, sum_: tuple[Term, ...], shape: tuple[int, int]) -> None:
        coded = found(sum_, shape)
        for name, array in coded.state.items():
            broken = Coded(coded.shape, coded.terms, {**coded.state, name: array[:-1]})
            with pytest.raises(IntaglioError):
                terms.validate(broken)

    @pytest.mark.parametrize("isa", _native.isas())
    def test_each_factor_runs_as_it_decodes(
        self, sum_: tuple[Term, ...], shape: tuple[int, int], isa: str
    ) -> None:
        coded = found(sum_, shape)
        for i, term in enumerate(coded.terms):
            for factor in term.factors(coded.shape):
                state = coded.term_state(i)
                operand = cpu.Operand(factor.shape, factor.layout, factor.state(state))
                w = factor.decode(state).numpy()
                np.testing.assert_allclose(cpu.decode(operand), w, rtol=1e-6, atol=1e-9)
                packed = cpu.pack([operand], cpu.choose(operand), isa=isa)
                x = np.random.default_rng(0).standard_normal((9, factor.shape[1])).astype(np.float32)
                for n in (1, 2, 5, 9):
                    y = x[:n] @ w.T
                    most = 1e-4 * float(np.abs(y).max()) + rounding_bound(w, x[:n])
                    assert (np.abs(packed.linear(x[:n]) - y) <= most).all()
                rows = np.stack([packed.row(r) for r in range(len(w))])
                np.testing.assert_allclose(rows, w, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("form", [Floating("float16"), Integer(3, symmetric=True, group_size=64)], ids=repr)
def test_codes_and_a_low_rank_run_as_their_dense_sum(form: Format, shape: tuple[int, int], isa: str) -> None:
    """MiLo's three products, the last two thin, are the one they stand for, but for rounded inputs."""
    coded = found((Dense(Integer(3, group_size=64, zero="float16")), LowRank(8, form)), shape)
    x = np.random.default_rng(0).standard_normal((9, shape[1])).astype(np.float32)
    y = np.zeros((9, shape[0]), np.float32)
    for i, term in enumerate(coded.terms):
        *inner, last = (
            cpu.pack([m], cpu.choose(m), isa=isa)
            for factor in term.factors(shape)
            for m in [cpu.Operand(factor.shape, factor.layout, factor.state(coded.term_state(i)))]
        )
        h = x
        for one in inner:
            h = one.linear(h)
        y = last.linear(h, onto=y)
    expected = x.astype(np.float64) @ terms.decode(coded).numpy().T
    most = 1e-5 if isa == "scalar" else 3e-4
    assert np.abs(y - expected).max() <= most * np.abs(expected).max()


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("activation", [None, A8], ids=["a16", "a8"])
@pytest.mark.parametrize("sum_", EXAMPLES, ids=repr)
def test_a_model_of_them_is_the_reference(
    sum_: tuple[Term, ...], activation: Integer | None, isa: str
) -> None:
    """In blocks of many tokens, and two at a time. Some kernels round what they read to 15 bits."""
    checkpoint = compressed(plain("llama-biased", gain=0.5), sum_, activation)
    limit = 3e-4 if activation is None else 3e-2
    expected = reference_logits(checkpoint, Half())
    assert relative(run_logits(checkpoint, isa), expected).max() <= limit
    assert relative(run_logits(checkpoint, isa, step=2), expected).max() <= limit


def compressed(checkpoint: Checkpoint, sum_: tuple[Term, ...], activation: Integer | None) -> Checkpoint:
    """Every other role by `sum_`: sums, plain matrices and fused ones side by side."""
    coded = {}
    for layer in range(checkpoint.spec.num_layers):
        for role in ("q", "v", "o", "gate", "up", "down"):
            site = roles.site(layer, role)
            source = checkpoint.linears[site]
            made = Greedy().solve(terms.decode(source), sum_, Metric(), activation=activation)
            coded[site] = Coded(made.shape, made.terms, made.state, activation, source.bias)
    return checkpoint.replace(coded)


def test_more_rank_is_closer_and_all_of_it_exact() -> None:
    w = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    errors = [
        Greedy().solve(w, (LowRank(rank, Floating("float32")),), Metric()).notes["error"]
        for rank in (4, 12, 24)
    ]
    assert errors[0] > errors[1] > 0.05
    assert errors[2] < 1e-9


def test_the_metric_steers_a_low_rank() -> None:
    """Directions that the inputs never take cost nothing, so the rank goes to the others."""
    gen = torch.Generator().manual_seed(0)
    w, x = (
        torch.randn(32, 48, generator=gen),
        torch.randn(500, 8, generator=gen) @ torch.randn(8, 48, generator=gen),
    )
    metric = Metric(x.T @ x / len(x))
    assert Greedy().solve(w, (LowRank(8),), metric).notes["error"] < 1e-4
    blind = Greedy().solve(w, (LowRank(8),), Metric())
    assert metric.relative(w, w - terms.decode(blind)) > 0.1


def test_planted_outliers_are_taken_out() -> None:
    gen = torch.Generator().manual_seed(0)
    w = torch.randn(64, 128, generator=gen)
    planted = torch.randperm(w.numel(), generator=gen)[:40]
    w.view(-1)[planted] = 20 * w.view(-1)[planted].sign()
    coded = Greedy().solve(w, (Outliers(40 / w.numel()), Dense(Integer(3, group_size=64))), Metric())
    alone = Greedy().solve(w, (Dense(Integer(3, group_size=64)),), Metric())
    kept = set(np.flatnonzero(coded.terms[0].decode(coded.term_state(0), coded.shape).numpy()).tolist())
    assert len(kept & set(planted.tolist())) == 40
    assert coded.notes["error"] < alone.notes["error"] / 3

"""What matrices make of their inputs: channels gathered in an order, rounded in groups."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from intaglio.attention import Affine, Half
from intaglio.engine.executor import Executor
from intaglio.errors import IntaglioError
from intaglio.formats import Activation, Floating, Format, Integer, Mixed, TwoLevel
from intaglio.models import reference, roles, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.terms import Coded, Dense, decode
from tests.engine.small import A8, ISAS, far, generate, plain, reference_logits, relative, run_logits, tokens

W4, A4 = Mixed(4, group_size=16, clip=0.85), Mixed(4, group_size=16, clip=0.9)
SCHEMES: dict[str, tuple[Format, Activation | None]] = {
    "w4a4": (W4, A4),
    "w4a8": (W4, Integer(8, symmetric=True, group_size=16)),
    "w8a8": (Integer(8, symmetric=True, group_size=32), Integer(8, symmetric=True, group_size=32)),
    "w8a4": (Mixed(8, group_size=32, kept=0), Mixed(4, group_size=32)),
    "other groups": (W4, Mixed(4, group_size=8)),  # from here on no kernel reads them: rounded floats
    "odd groups": (Mixed(3, group_size=5), Mixed(4, group_size=5, kept=2)),
    "one a token": (Integer(4, symmetric=True), Integer(4, symmetric=True)),
    "two-level": (TwoLevel(bits=4, group_size=32), A8),
    "floats": (Floating("float32"), None),
}


def ordered(coded: Coded, fmt: Format, activation: Activation | None, seed: int) -> Coded:
    """The matrix in `fmt`, its columns in a random order."""
    order = np.random.default_rng(seed).permutation(coded.shape[1]).astype(np.uint16)
    w = decode(coded)[:, order.astype(np.int64)]
    tables = fmt.fit(w)
    state = {f"0.{k}": a for k, a in fmt.pack(fmt.encode(w, tables), tables).items()}
    return Coded(coded.shape, (Dense(fmt),), state, activation, coded.bias, order=order)


def of_order(
    checkpoint: Checkpoint, fmt: Format, activation: Activation | None, *, apart: bool = False
) -> Checkpoint:
    """Every linear so; those of one input in one order, or each in its `apart`."""
    made = {}
    for layer in range(checkpoint.spec.num_layers):
        for i, members in enumerate(roles.INPUTS.values()):
            for j, role in enumerate(members):
                site = roles.site(layer, role)
                made[site] = ordered(checkpoint.linears[site], fmt, activation, 10 * i + (j if apart else 0))
    return checkpoint.replace(made)


@pytest.mark.parametrize("apart", [False, True])
def test_an_order_keeps_the_function(apart: bool) -> None:
    source = plain("llama-biased", gain=0.5)
    ids = torch.from_numpy(tokens(40)).long()[None]
    found = reference.forward(of_order(source, Floating("float32"), None, apart=apart), ids)
    assert torch.allclose(found, transformer.forward(source, ids), atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["llama-tied", "llama-biased"])
@pytest.mark.parametrize("rotated", [False, True])
def test_the_table_of_tokens_may_have_an_order(name: str, isa: str, rotated: bool) -> None:
    """Alone, or before and behind a projection; as the head of a tied model it reads its inputs so too."""
    source = plain(name, gain=0.5)
    if rotated:
        width, seed = source.spec.hidden_size, torch.Generator().manual_seed(0)
        turn = torch.linalg.qr(torch.randn(width, width, generator=seed))[0].numpy()
        added = {roles.EMBED_PROJ: turn, **({roles.HEAD_PROJ: turn.T.copy()} if source.spec.tied else {})}
        source = source.replace(
            {key: Coded(w.shape, (Dense(Floating("float32")),), {"0.value": w}) for key, w in added.items()}
        )
    table = ordered(source.linears[roles.EMBEDDING], Floating("float32"), None, 0)
    rows = relative(
        run_logits(source.replace({roles.EMBEDDING: table}), isa), reference_logits(source, Half())
    )
    assert rows.max() <= 1e-4


def test_what_is_rounded_of_an_ordered_table_is_refused() -> None:
    source = plain("llama-tied")
    turn = Coded(
        (source.spec.hidden_size,) * 2,
        (Dense(Floating("float32")),),
        {"0.value": np.eye(source.spec.hidden_size, dtype=np.float32)},
        activation=A8,
    )
    table = ordered(source.linears[roles.EMBEDDING], Floating("float32"), None, 0)
    with pytest.raises(IntaglioError, match=r"embed_proj reads rounded numbers of .* which has an order"):
        Executor(source.replace({roles.EMBEDDING: table, roles.EMBED_PROJ: turn}), threads=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("apart", [False, True], ids=["one order", "orders apart"])
def test_the_executor_is_the_reference(scheme: str, isa: str, apart: bool) -> None:
    """A value on the edge between two codes moves its token, at 4 bits far; most are as close as floats."""
    checkpoint = of_order(plain("llama-biased", gain=0.5), *SCHEMES[scheme], apart=apart)
    expected = reference_logits(checkpoint, Half())
    for step in (64, 2):
        rows = relative(run_logits(checkpoint, isa, step=step), expected)
        assert np.median(rows) <= 1e-4
        assert rows.max() <= 0.2


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "olmo2", "phi3"])
def test_every_architecture_in_groups(name: str) -> None:
    checkpoint = of_order(plain(name, gain=0.5), W4, A4)
    rows = relative(
        run_logits(checkpoint, ISAS[0], "int4", starts=20),
        reference_logits(checkpoint, Affine(bits=4), starts=20),
    )
    assert np.median(rows) <= 1e-4


def test_what_one_reads_in_integers_another_may_read_in_floats() -> None:
    """q in groups of 4 bits, k in 8 bits a token, v as it is: one input in three forms."""
    source = plain("llama-biased", gain=0.5)
    made = {}
    for layer in range(source.spec.num_layers):
        for role, (fmt, activation) in zip(
            ("q", "k"), (SCHEMES["w4a4"], (Integer(8, symmetric=True), A8)), strict=True
        ):
            site = roles.site(layer, role)
            made[site] = ordered(source.linears[site], fmt, activation, 1)
    checkpoint = source.replace(made)
    executor = Executor(checkpoint, threads=1, kv="fp16")
    assert {line.reads for line in executor.plan} == {"int8", "float"}
    assert np.median(relative(executor.logits(tokens(100)), reference_logits(checkpoint, Half()))) <= 1e-4


def test_the_plan_names_the_kernel_and_why_not() -> None:
    fast = Executor(of_order(plain("llama-biased"), *SCHEMES["w4a4"]), threads=1)
    layer = [line for line in fast.plan if "layers" in line.sites[0]]
    assert {line.kernel for line in layer} == {"groups"}
    assert max(len(line.sites) for line in layer) == 3  # q, k, v of one order are one matrix
    slow = Executor(of_order(plain("llama-biased"), *SCHEMES["other groups"]), threads=1)
    reasons = dict(next(line for line in slow.plan if "layers" in line.sites[0]).declined)
    assert reasons["groups"] == "reads activations in the groups of the weights, 16, got 8"


def test_a_head_in_groups_and_a_batch() -> None:
    """A tied table of 8 bits in groups; greedy tokens of sequences together are those of each alone."""
    source = plain("llama-tied", gain=0.5)
    fmt = Integer(8, symmetric=True, group_size=32)
    w = decode(source.linears[roles.EMBEDDING])
    tables = fmt.fit(w)
    state = {f"0.{k}": a for k, a in fmt.pack(fmt.encode(w, tables), tables).items()}
    table = Coded((w.shape[0], w.shape[1]), (Dense(fmt),), state, fmt)
    checkpoint = of_order(source, *SCHEMES["w4a4"]).replace({roles.EMBEDDING: table})
    executor = Executor(checkpoint, threads=1, kv="int4")
    assert executor.plan[0].kernel == "groups"
    rows = relative(run_logits(checkpoint, ISAS[0]), reference_logits(checkpoint, Half()))
    assert np.median(rows) <= 1e-4
    prompt = tokens(20).tolist()
    assert generate(executor, prompt, 8) == generate(executor, prompt, 8, chunk=7)


def test_far_orders_are_seen() -> None:
    """The test of equality would notice an order that is left out."""
    checkpoint = of_order(plain("llama-biased", gain=0.5), Floating("float32"), None)
    without = checkpoint.replace(
        {n: dataclasses.replace(c, order=None) for n, c in checkpoint.linears.items()}
    )
    assert far(run_logits(without, ISAS[0]), reference_logits(checkpoint, Half())) > 0.1

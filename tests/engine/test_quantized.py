"""Matrices of few bits, integer activations and coded pages, beside the torch definition of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intaglio.attention import Affine, Half
from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.formats import Floating, Format, Integer, TwoLevel
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.transformer import block, embed, layer_weights, outer_weights
from intaglio.terms import Coded, Dense
from intaglio.types import Array
from tests.engine.small import (
    A8,
    ISAS,
    coded,
    far,
    plain,
    reference_logits,
    relative,
    rounded,
    run_logits,
    tokens,
)

SCHEMES: dict[str, tuple[Format, Integer | None]] = {
    "w4a8-two-level": (TwoLevel(bits=4, group_size=32), A8),
    "w3a8-two-level": (TwoLevel(bits=3, group_size=32), A8),
    "w4a8-row": (Integer(bits=4), A8),
    "w4a8-group": (Integer(bits=4, group_size=32), A8),
    "w8a8": (Integer(bits=8, symmetric=True), A8),
    "w4a16": (Integer(bits=4, group_size=32), None),
    "w3a16": (Integer(bits=3, group_size=16), None),
    "w8a16": (Integer(bits=8, group_size=32), None),
    "float16": (Floating("float16"), None),
    "bfloat16": (Floating("bfloat16"), None),
}
# no kernel reads these inputs: float matrices over rounded floats
FALLBACKS: dict[str, tuple[Format, Integer | None]] = {
    "w5a8": (Integer(bits=5, group_size=32), A8),
    "w4a6": (Integer(bits=4, group_size=32), Integer(bits=6, symmetric=True)),
    "short groups": (Integer(bits=4, group_size=12), A8),
}


# float inputs of these are made integers of 15 bits and a sign
ROUNDS_INPUTS = ("w4a16", "w3a16", "w8a16")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("scheme", [*SCHEMES, *FALLBACKS])
def test_logits_are_those_of_the_reference(scheme: str, isa: str) -> None:
    checkpoint = rounded(plain("llama-biased", gain=0.5), *(SCHEMES | FALLBACKS)[scheme])
    most = 3e-4 if scheme in ROUNDS_INPUTS and isa != "scalar" else 1e-5
    assert close(run_logits(checkpoint, isa), reference_logits(checkpoint, Half()), most)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "kv", [("fp16", Half()), ("int8", Affine(bits=8)), ("int4", Affine(bits=4))], ids=lambda k: k[0]
)
def test_pages_are_those_of_the_codec(kv: tuple[str, Half | Affine], isa: str) -> None:
    checkpoint = plain("llama-biased", gain=0.5)
    assert close_until_rounding(run_logits(checkpoint, isa, kv[0]), reference_logits(checkpoint, kv[1]))


@pytest.mark.parametrize("isa", ISAS)
def test_everything_integer(isa: str) -> None:
    """W4A8KV4 over grouped heads, windows, head norms and soft caps.

    The first key of 4 bits that falls to the other side is seen by all tokens after it, so one long sequence
    says little about equality: twenty short ones do.
    """
    codec = Affine(bits=4)
    for name in ("qwen3", "gemma2", "olmo2", "phi3"):
        checkpoint = rounded(plain(name, gain=0.5), TwoLevel(bits=4, group_size=32), A8)
        short = run_logits(checkpoint, isa, "int4", starts=20), reference_logits(checkpoint, codec, starts=20)
        assert close_until_rounding(*short), name
        assert (
            relative(run_logits(checkpoint, isa, "int4"), reference_logits(checkpoint, codec)).max() <= 3e-2
        ), name


def test_attention_is_dense_attention_on_what_the_pages_hold() -> None:
    """The executor's own pages, read back: keys and values of the codec, to the last bit of float16."""
    checkpoint = plain("llama", gain=0.5)
    executor = Executor(checkpoint, kv="int4", max_tokens=64, max_sequences=2)
    pages = executor.pool.allocate(2)
    x = tokens(70)
    executor.step([Chunk(x[:64], 0, pages)])
    executor.step([Chunk(x[64:], 64, pages)])
    keys = _first_layer_keys(checkpoint, x)  # (heads, tokens, head_dim)
    held = np.array(
        [[executor.read_page(pages[t // 64], 0, h, t % 64, False) for t in range(70)] for h in range(2)]
    )
    step = (keys.max(-1) - keys.min(-1)) / 15
    assert (np.abs(held - keys).max(-1) <= step * 0.52).all()


def _first_layer_keys(checkpoint: Checkpoint, x: Array) -> Array:
    seen: dict[str, torch.Tensor] = {}

    def tap(point: str, value: torch.Tensor) -> torch.Tensor:
        seen[point] = value
        return value

    hidden = embed(checkpoint.spec, outer_weights(checkpoint), torch.from_numpy(x)[None].long())
    block(checkpoint.spec, 0, layer_weights(checkpoint, 0), hidden, tap=tap)
    return np.asarray(seen["key"][0].numpy())


@pytest.mark.parametrize("isa", ISAS)
def test_rotated_models_project_around_the_layers(isa: str) -> None:
    """embed_proj and head_proj, in float and in integers, with a head of its own."""
    generator = torch.Generator().manual_seed(3)
    projection = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0].numpy()
    for fmt, activation in ((None, None), (TwoLevel(bits=4, group_size=32), A8)):
        checkpoint = plain("llama", gain=0.5)
        matrix = Coded((64, 64), (Dense(Floating("float32")),), {"0.value": np.ascontiguousarray(projection)})
        if fmt is not None:
            matrix = coded(matrix, fmt, activation)
            checkpoint = checkpoint.replace(
                {roles.HEAD: coded(checkpoint.linears[roles.HEAD], fmt, activation)}
            )
        checkpoint = checkpoint.replace({roles.EMBED_PROJ: matrix, roles.HEAD_PROJ: matrix})
        got, expected = run_logits(checkpoint, isa), reference_logits(checkpoint, Half())
        assert fmt is not None or far(got, expected) <= 1e-3  # the reference does not round these two inputs
        assert far(got, expected) <= 0.1


def test_layers_may_differ() -> None:
    """One layer in integers, one in floats: the shared input buffer serves both."""
    checkpoint = plain("olmo2", gain=0.5)
    sites = [roles.site(1, role) for role in roles.LINEARS]
    mixed = checkpoint.replace(
        {s: coded(checkpoint.linears[s], TwoLevel(bits=4, group_size=32), A8) for s in sites}
    )
    for isa in ISAS:
        assert close(run_logits(mixed, isa), reference_logits(mixed, Half()))


def test_inputs_that_share_a_format_are_fused() -> None:
    checkpoint = rounded(plain("llama", gain=0.5), Integer(bits=4, group_size=32), A8, only=("q", "k"))
    plan = Executor(checkpoint).plan
    first = [(line.sites, line.kernel) for line in plan if line.sites[0].startswith("model.layers.0.")]
    named = [("/".join(site.rpartition(".")[2] for site in sites), kernel) for sites, kernel in first]
    assert named == [
        ("q_proj/k_proj", "w4a8-group"),
        ("v_proj", "float32"),
        ("o_proj", "float32"),
        ("gate_proj/up_proj", "float32"),
        ("down_proj", "float32"),
    ]


def test_the_plan_says_why_better_kernels_declined() -> None:
    plan = Executor(rounded(plain("llama"), *FALLBACKS["w4a6"])).plan
    line = next(line for line in plan if line.sites[0] == roles.site(0, "q"))
    assert dict(line.declined)["w4a8-group"].startswith("reads symmetric int8 activations")
    assert (line.kernel, line.reads) == ("w4", "float of 6 bits")


@pytest.mark.parametrize(
    ("fmt", "activation", "reads"),
    [
        (Integer(bits=4, group_size=32), A8, "int8"),
        (Integer(bits=4, group_size=32), None, "float"),
        (Integer(bits=8, symmetric=True, group_size=32), A8, "float of 8 bits"),
    ],
)
def test_the_plan_says_what_a_kernel_reads(fmt: Integer, activation: Integer | None, reads: str) -> None:
    plan = Executor(rounded(plain("llama"), fmt, activation)).plan
    assert {line.reads for line in plan if "layers" in line.sites[0]} == {reads}


def test_a_tied_head_is_the_embedding() -> None:
    executor = Executor(plain("llama-tied"))
    assert [line.sites for line in executor.plan if "layers" not in line.sites[0]] == [(roles.EMBEDDING,)]
    assert executor.reserved_nbytes - executor.cache_nbytes > sum(line.nbytes for line in executor.plan)


def close(got: Array, expected: Array, most: float = 1e-5) -> bool:
    """Equal but where a value fell to the other side of a rounding step: few tokens, and not far."""
    rows = relative(got, expected)
    return bool(np.median(rows) <= most and np.quantile(rows, 0.85) <= 1e-3 and rows.max() <= 3e-2)


def close_until_rounding(got: Array, expected: Array) -> bool:
    """As `close`, but a key or value of few bits that fell to the other side is seen by all later tokens."""
    rows = relative(got, expected)
    return bool(np.quantile(rows, 0.1) <= 1e-5 and rows.max() <= 3e-2)

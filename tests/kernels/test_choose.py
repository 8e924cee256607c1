"""Which kernel a coded matrix gets, and what the others say."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from intaglio.formats import NM, Activation, Csr, Floating, Format, Integer, Mixed, TwoLevel
from intaglio.formats.pack import pack
from intaglio.kernels import cpu
from intaglio.types import State

INT8 = Integer(bits=8, symmetric=True)
SHAPE = (6, 80)


def state(form: Format, shape: tuple[int, int] = SHAPE) -> State:
    """Random arrays as a format stores them."""
    rng = np.random.default_rng(0)
    if isinstance(form, Mixed):
        w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        tables = form.fit(w)
        return form.pack(form.encode(w, tables), tables)
    if isinstance(form, Floating):
        dtype = ml_dtypes.bfloat16 if form.dtype == "bfloat16" else np.dtype(form.dtype)
        return {"value": rng.standard_normal(shape).astype(dtype)}
    tables = (shape[0], 1 if form.group_size is None else -(-shape[1] // form.group_size))
    codes = {"codes": pack(rng.integers(0, 1 << form.bits, shape).astype(np.uint8), form.bits)}
    zero = rng.integers(0, 1 << form.bits, tables).astype(np.uint8)
    if isinstance(form, TwoLevel):
        steps = rng.integers(1, 17, tables).astype(np.uint8)
        return codes | {
            "scale": rng.random((shape[0], 1), np.float32),
            "group_scale": steps,
            "group_zero": zero,
        }
    scale = rng.random(tables).astype(np.float32 if form.group_size is None else np.float16)
    return codes | {"scale": scale} | ({} if form.symmetric else {"zero": zero})


def operand(form: Format, activation: Activation | None = None) -> cpu.Operand:
    return cpu.Operand(SHAPE, form, state(form), activation)


@pytest.mark.parametrize(
    ("form", "activation", "kernel"),
    [
        (Floating("float32"), None, "float32"),
        (Floating("float16"), INT8, "float16"),
        (Floating("bfloat16"), None, "bfloat16"),
        (Integer(bits=4, group_size=16), None, "w4"),
        (Integer(bits=3), None, "w3"),
        (Integer(bits=3, group_size=16), None, "w3"),
        (Integer(bits=3, group_size=8), None, "w4"),
        (Integer(bits=2, group_size=48), None, "w2"),
        (Integer(bits=2, group_size=24), None, "w4"),
        (Integer(bits=6, group_size=16), None, "w8"),
        (Integer(bits=8, symmetric=True), None, "w8"),
        (Integer(bits=8, symmetric=True), INT8, "w8a8"),
        (Integer(bits=8), INT8, "w8"),
        (Integer(bits=4), INT8, "w4a8"),
        (Integer(bits=2, symmetric=True), INT8, "w4a8"),
        (Integer(bits=4, group_size=16), INT8, "w4a8-group"),
        (Mixed(group_size=16), Mixed(group_size=16), "groups"),
        (Integer(bits=8, symmetric=True, group_size=16), Mixed(group_size=16), "groups"),
        (Integer(bits=4, symmetric=True, group_size=16), Integer(8, True, 16), "groups"),
        (Integer(bits=6, symmetric=True, group_size=16), Integer(8, True, 16), "groups"),
        (Mixed(6, group_size=16), Mixed(group_size=16), "groups"),
        (Mixed(group_size=16, kept_bits=4), Mixed(group_size=16), "groups"),
        (Mixed(6, group_size=8), Mixed(group_size=8), "decode-then-matmul"),
        (Mixed(8, group_size=16, kept_bits=6), Mixed(group_size=16), "decode-then-matmul"),
        (Mixed(group_size=16), INT8, "decode-then-matmul"),
        (Mixed(group_size=16, kept_bits=5), Mixed(group_size=16), "decode-then-matmul"),
        (Mixed(3, group_size=16), Mixed(group_size=16), "decode-then-matmul"),
        (Mixed(group_size=12), Mixed(group_size=12), "decode-then-matmul"),
        (Integer(bits=4, group_size=16), Mixed(group_size=16), "w4"),
        (TwoLevel(group_size=16), INT8, "w4a8-two-level"),
        (TwoLevel(group_size=16), None, "decode-then-matmul"),
        (TwoLevel(group_size=12), INT8, "decode-then-matmul"),
        (Integer(bits=4, group_size=12), None, "decode-then-matmul"),
        (Integer(bits=4, group_size=512), INT8, "w4a8"),
    ],
)
def test_choose(form: Format, activation: Integer | None, kernel: str) -> None:
    m = operand(form, activation=activation)
    choice = cpu.choose(m)
    assert choice.kernel == kernel
    assert [name for name, _ in choice.declined] == [c.name for c in cpu.CANDIDATES[: len(choice.declined)]]
    assert all(sentence for _, sentence in choice.declined)
    packed = cpu.pack([m, m], choice)
    w = cpu.decode(m)
    for r in range(6):
        np.testing.assert_allclose(packed.row(r), w[r], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(packed.row(r), packed.row(6 + r))


def test_reasons_name_what_was_found() -> None:
    reasons = dict(cpu.choose(operand(TwoLevel(group_size=12), activation=INT8)).declined)
    assert reasons["w4a8-two-level"] == "needs groups of a multiple of 8 columns, got 12"
    assert "reads int8" in dict(cpu.choose(operand(Integer())).declined)["w4a8"]
    four = Integer(bits=4, symmetric=True)
    assert "one scale a token" in dict(cpu.choose(operand(Integer(), activation=four)).declined)["w4a8"]


@pytest.mark.parametrize(("share", "kernel"), [(0.1, "csr"), (0.5, "bitmask")])
def test_many_nonzeros_run_behind_a_bitmask(share: float, kernel: str) -> None:
    kept = np.random.default_rng(0).standard_normal(SHAPE) * (np.arange(80) % 10 < 10 * share)
    m = cpu.Operand(SHAPE, Csr(), Csr().store(kept))
    choice = cpu.choose(m)
    assert choice.kernel == kernel
    packed = cpu.pack([m], choice)
    np.testing.assert_array_equal(np.stack([packed.row(r) for r in range(6)]), cpu.decode(m))


@pytest.mark.parametrize(("value", "kernel"), [("float16", "nm"), ("int8", "nm-int8")])
def test_blocks_run_as_they_are_stored(value: str, kernel: str) -> None:
    form = NM(2, 4, value)  # type: ignore[arg-type]
    kept = np.random.default_rng(0).standard_normal(SHAPE) * (np.arange(80) % 4 < 2)
    m = cpu.Operand(SHAPE, form, form.store(kept))
    assert cpu.choose(m).kernel == kernel
    assert dict(cpu.choose(m).declined)["csr"] == "runs csr, got nm"

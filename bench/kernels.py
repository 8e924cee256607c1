"""How fast is each kernel on this machine, beside torch in float32?

    python bench/kernels.py [--isa avx2] [--kinds w4a8_two,f32] [--shapes 4096x4096] [--tokens 1,128]

One thread, processor time, median and best. Prefill in GMAC/s, one token in GB/s of packed weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np

from intaglio import _native
from intaglio.formats.pack import pack

KINDS = ("f32", "f16", "bf16", "w2", "w3", "w4", "w8", "w8a8", "w4a8", "w4a8_two", "w4a8_group")
GROUP = 64


def matrix(kind: int, rows: int, cols: int, isa: str) -> _native.Matrix:
    """A random matrix of a kind, groups of 64 columns where it has groups."""
    rng = np.random.default_rng(0)
    if kind <= 2:
        value = rng.standard_normal((rows, cols), dtype=np.float32)
        stored = (value, value.astype(np.float16), value.view(np.uint16)[:, 1::2].copy())[kind]
        return _native.Matrix(kind, cols, [(0, cols, stored.view(np.uint8), None, None, None)], isa)
    name = KINDS[kind]
    bits, group = int(name[1]), cols if name in ("w8a8", "w4a8") else GROUP
    tables = (rows, -(-cols // group))
    codes = pack(rng.integers(0, 1 << bits, (rows, cols), dtype=np.uint8), bits)
    scale = rng.random((rows, 1) if name == "w4a8_two" else tables, dtype=np.float32)
    zero = None if name == "w8a8" else rng.integers(0, 1 << bits, tables, dtype=np.uint8)
    steps = rng.integers(1, 17, tables, dtype=np.uint8) if name == "w4a8_two" else None
    return _native.Matrix(kind, cols, [(bits, group, codes, scale, zero, steps)], isa)


def torch_seconds(rows: int, cols: int, x: np.ndarray, repeats: int) -> list[float]:
    """Times of torch's float32 matrix product of the same size."""
    import torch

    w, t = torch.randn(rows, cols), torch.from_numpy(x)
    return [timed(lambda: torch.nn.functional.linear(t, w)) for _ in range(repeats)]


def timed(call: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def line(name: str, isa: str, times: list[float], nbytes: int, macs: int, tokens: int) -> None:
    """One row of the table."""
    median, best = statistics.median(times), min(times)
    rate = [(nbytes if tokens == 1 else macs) / t / 1e9 for t in (median, best)]
    unit = "GB/s" if tokens == 1 else "GMAC/s"
    print(
        f"{name:12} {isa:11} {median * 1e6:10.0f} us {rate[0]:8.1f} {unit:6} (best {rate[1]:.1f})", flush=True
    )


def main() -> None:
    """Measure what was asked and print it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--isa", default=",".join(_native.isas()[:-1]))
    ask.add_argument("--kinds", default=",".join(KINDS))
    ask.add_argument("--shapes", default="4096x4096,576x1536")
    ask.add_argument("--tokens", default="1,128")
    ask.add_argument("--seconds", type=float, default=0.3, help="about how long each row is measured")
    a = ask.parse_args()
    for shape in a.shapes.split(","):
        rows, cols = map(int, shape.split("x"))
        packed = [
            (k, i, matrix(KINDS.index(k), rows, cols, i))
            for k in a.kinds.split(",")
            for i in a.isa.split(",")
        ]
        for tokens in map(int, a.tokens.split(",")):
            print(f"\n{rows} x {cols}, {tokens} token{'s' * (tokens > 1)}")
            x = np.random.default_rng(1).standard_normal((tokens, cols), dtype=np.float32)
            macs = rows * cols * tokens
            line("torch", "float32", torch_seconds(rows, cols, x, 9), rows * cols * 4, macs, tokens)
            for kind, isa, m in packed:
                first = m.seconds(x, 2)[-1]
                times = m.seconds(x, max(5, min(2000, int(a.seconds / first))))
                line(kind, isa, times, m.nbytes, macs, tokens)


if __name__ == "__main__":
    main()

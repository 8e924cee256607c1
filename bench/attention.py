"""How fast is attention over pages of each width, and what share of reading memory is that?

    python bench/attention.py [--isa avx2] [--context 4096] [--heads 3] [--rep 3] [--dim 64] [--queries 1,32]

One thread, processor time, medians. One query: microseconds and GB/s of pages; blocks of queries: GMAC/s.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from intaglio import _native

PAGE = 64


def pages_of(isa: str, bits: int, heads: int, dim: int, context: int) -> _native.Pages:
    """Pages full of random keys and values."""
    rng = np.random.default_rng(0)
    pages = _native.Pages(heads, dim, bits, context // PAGE, isa)
    for token in range(context):
        key, value = rng.standard_normal((2, heads, dim)).astype(np.float32)
        pages.write(token, key, value)
    return pages


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--isa", default=_native.isas()[0], choices=_native.isas())
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=3, help="KV heads")
    parser.add_argument("--rep", type=int, default=3, help="query heads to each of them")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--queries", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 32])
    options = parser.parse_args()
    heads, dim, context = options.heads, options.dim, options.context
    for bits in (32, 16, 8, 4):
        pages = pages_of(options.isa, bits, heads, dim, context)
        nbytes = 2 * pages.page_bytes * (context // PAGE)
        for queries in options.queries:
            q = np.random.default_rng(1).standard_normal((queries, options.rep, dim)).astype(np.float32)
            seconds = statistics.median(pages.seconds(q, max(5, 60 // queries)))
            macs = 2 * context * dim * heads * options.rep * queries
            print(
                f"{options.isa}  KV {bits:2}  {queries:3} queries  {seconds * 1e6:8.0f} us"
                f"  {nbytes / seconds / 1e9:6.2f} GB/s  {macs / seconds / 1e9:6.1f} GMAC/s"
            )


if __name__ == "__main__":
    main()

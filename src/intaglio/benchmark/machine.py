"""Machine: where it was measured, and the most it can do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

import msgspec

from intaglio import _native
from intaglio.errors import IntaglioError
from intaglio.processor import processor_name

SECONDS = 0.25  # of one measurement
LARGE = 1 << 30  # bytes that no cache holds


class Machine(msgspec.Struct, frozen=True):
    """`isa`: the instruction set our kernels were run with; `memory`: bytes."""

    cpu: str
    cores: int
    isa: str
    memory: int


class Limits(msgspec.Struct, frozen=True):
    """The most the machine did: reading a buffer of the model's size and one of 1 GiB, and 8-bit dots.

    The best of `samples` measurements spread over the run; the medians beside it say how steady it was.
    """

    read_gb_s: float
    dram_gb_s: float
    int8_gmac_s: float
    read_gb_s_median: float
    dram_gb_s_median: float
    int8_gmac_s_median: float
    samples: int


class Sample(msgspec.Struct, frozen=True):
    """One measurement of all three."""

    read_gb_s: float
    dram_gb_s: float
    int8_gmac_s: float


def machine(isa: str) -> Machine:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(processor_name(), len(os.sched_getaffinity(0)), isa, pages * size)


def measured(isa: str, threads: int, nbytes: int) -> Sample:
    """In a process of its own, so that no thread of it is left."""
    command = [sys.executable, "-m", "intaglio.benchmark.machine", isa, str(threads), str(nbytes)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise IntaglioError(f"measuring the machine failed: {done.stderr.decode(errors='replace')[-300:]}")
    return msgspec.json.decode(done.stdout, type=Sample)


def limits(samples: Sequence[Sample]) -> Limits:
    """The best and the median of each."""
    each = {field: [getattr(sample, field) for sample in samples] for field in Sample.__struct_fields__}
    best = {field: max(values) for field, values in each.items()}
    typical = {f"{field}_median": median(values) for field, values in each.items()}
    return Limits(**best, **typical, samples=len(samples))


def main(isa: str, threads: int, nbytes: int) -> None:
    sample = Sample(
        read_gb_s=_native.read_bandwidth(isa, threads, nbytes, SECONDS) / 1e9,
        dram_gb_s=_native.read_bandwidth(isa, threads, LARGE, SECONDS) / 1e9,
        int8_gmac_s=_native.int8_peak(isa, threads, SECONDS) / 1e9,
    )
    sys.stdout.buffer.write(msgspec.json.encode(sample))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

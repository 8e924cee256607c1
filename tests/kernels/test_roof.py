"""The roofs: what a machine can do at most. Here only that they are measured, in the right unit."""

import pytest

from intaglio import _native


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_the_roofs_are_rates(isa: str, threads: int) -> None:
    assert 1e8 < _native.int8_peak(isa, threads, 0.01) < 1e14  # multiply-adds a second
    assert 1e8 < _native.read_bandwidth(isa, threads, 1 << 22, 0.01) < 1e13  # bytes a second


@pytest.mark.parametrize(
    ("threads", "nbytes", "seconds"), [(0, 1 << 20, 0.1), (2, 4096, 0.1), (1, 1 << 20, 0.0)]
)
def test_senseless_measurements_are_refused(threads: int, nbytes: int, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"threads|bytes|seconds"):
        _native.read_bandwidth("", threads, nbytes, seconds)

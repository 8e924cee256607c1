"""What a library prints by itself does not reach standard output."""

from __future__ import annotations

import ctypes
import os

import pytest

from intaglio.search.silence import silence


def test_only_the_block_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.CDLL(None)
    with silence():
        libc.puts(b"buffered noise")
        os.write(1, b"noise")
    print("said", flush=True)
    libc.puts(b"said by C")
    libc.fflush(None)
    assert capfd.readouterr().out == "said\nsaid by C\n"


def test_an_error_ends_the_silence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), silence():
        raise ValueError("no")
    print("said", flush=True)
    assert capfd.readouterr().out == "said\n"

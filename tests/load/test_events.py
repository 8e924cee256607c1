"""Events come out the same however the stream is cut into packets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.load import events
from intaglio.load.events import Events
from intaglio.load.failure import Failure

STREAM = (
    'data: {"text":"zażółć 🦔"}\n\n: a comment\r\nevent: x\r\n'
    "data:first\ndata: second\r\n\r\nid: 7\n\n\ndata: [DONE]\n\n"
).encode()
FOUND = ['{"text":"zażółć 🦔"}'.encode(), b"first\nsecond", b"[DONE]"]


def read(*pieces: bytes) -> list[bytes]:
    stream = Events()
    return [event for piece in pieces for event in stream.feed(piece)]


def test_every_place_to_cut() -> None:
    assert read(STREAM) == FOUND
    for cut in range(len(STREAM)):
        assert read(STREAM[:cut], STREAM[cut:]) == FOUND
    assert read(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == FOUND


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)),
    st.lists(st.integers(0, 400)),
)
def test_any_text_and_any_cuts(texts: list[str], cuts: list[int]) -> None:
    stream = "".join(f"data: {text}\n\n" for text in texts).encode()
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    assert read(*pieces) == [text.encode() for text in texts]


def test_an_unfinished_event_is_none() -> None:
    assert read(b"data: half") == []
    assert read(b"data: half\n") == []


def test_an_error_line_ends_the_stream() -> None:
    with pytest.raises(Failure, match="error in the stream: out of slots"):
        read(b"error: out of slots\n")


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST", 100)
    assert read(b"x" * 60, b"x" * 40, b"\n") == []
    with pytest.raises(Failure, match="a line of more than 100 bytes"):
        read(b"x" * 60, b"x" * 41)

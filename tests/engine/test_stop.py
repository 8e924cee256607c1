"""Stop strings across the borders of pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intaglio.engine.stop import StopBuffer

LETTERS = st.text(alphabet="ab\n", max_size=30)


def run(text: str, stops: list[str], cuts: list[int]) -> tuple[str, str | None]:
    buffer, shown, start = StopBuffer(stops), "", 0
    for end in [*sorted(cuts), len(text)]:
        shown += buffer.push(text[start : max(start, end)])
        start = max(start, end)
        if buffer.matched is not None:
            return shown, buffer.matched
    return shown + buffer.flush(), None


@given(LETTERS, st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), max_size=3), st.data())
def test_shows_what_precedes_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    shown, matched = run(text, stops, cuts)
    if not any(stop in text for stop in stops):
        assert (shown, matched) == (text, None)
        return
    assert matched in stops
    assert text.startswith(shown + (matched or ""))
    assert not any(stop in shown for stop in stops)


@given(LETTERS, st.data())
def test_cuts_make_no_difference_for_one_stop(text: str, data: st.DataObject) -> None:
    stop = data.draw(st.text(alphabet="ab\n", min_size=1, max_size=5))
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert run(text, [stop], cuts)[0] == text.split(stop)[0]


def test_holds_back_only_what_may_become_a_stop() -> None:
    buffer = StopBuffer(["END"])
    assert buffer.push("so E") == "so "
    assert buffer.push("N") == ""
    assert buffer.push("ough") == "ENough"
    assert buffer.push("EN") == ""
    assert buffer.flush() == "EN"


def test_shows_text_at_once_without_stops() -> None:
    assert StopBuffer([]).push("abc") == "abc"

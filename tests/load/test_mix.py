"""A mix is read, shared out exactly and drawn the same for a seed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from intaglio.errors import UsageError
from intaglio.load.mix import Part, mix, near, shuffled


def test_shares_sum_to_one() -> None:
    assert mix("short:64/32:0.9, long:4096/64:0.1") == (
        Part("short", 64, 32, 0.9),
        Part("long", 4096, 64, 0.1),
    )
    assert mix("a:1/2,b:3/4:3") == (Part("a", 1, 2, 0.25), Part("b", 3, 4, 0.75))
    assert mix("one:5/6") == (Part("one", 5, 6, 1.0),)


@pytest.mark.parametrize(
    "text",
    ["", ",", "64/64", "a:64", "a:64/", "a:0/1", "a:1/0", "a:1/1:0", "a:1/1:-1", "a:1/1:x", "a:1/1,a:2/2",
     "a:1/1:1:1", "a:1048577/1", "a:1/9999999999999999999999", "a b:1/1", "all:1/1", "a:1/1:nan"],
)  # fmt: skip
def test_what_is_no_mix_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mix"):
        mix(text)


@pytest.mark.parametrize("count", [1, 7, 10, 99, 1000])
def test_each_part_is_as_often_as_its_share_says(count: int) -> None:
    parts = mix("a:1/1:0.61,b:1/1:0.29,c:1/1:0.1")
    drawn = Counter(part.name for part in shuffled(parts, count, Random(3)))
    assert drawn.total() == count
    for part in parts:
        assert abs(drawn[part.name] - part.share * count) < 1


def test_the_order_is_random_and_the_seeds() -> None:
    parts = mix("a:1/1,b:1/1")
    orders = [[part.name for part in shuffled(parts, 40, Random(seed))] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_lengths_lie_evenly_around() -> None:
    random = Random(0)
    drawn = [near(100, 0.2, random) for _ in range(4000)]
    assert (min(drawn), max(drawn)) == (80, 120)
    assert sum(drawn) / len(drawn) == pytest.approx(100, abs=1)
    assert {near(100, 0.0, random) for _ in range(50)} == {100}
    assert min(near(1, 0.999, random) for _ in range(50)) == 1

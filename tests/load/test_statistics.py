"""Percentiles are exact; rates, errors and goodput count what they say."""

from __future__ import annotations

import pytest

from intaglio.errors import UsageError
from intaglio.load.objectives import Objectives, objectives
from intaglio.load.result import concurrency, parted
from intaglio.load.statistics import Goodput, distribution, statistics
from tests.load.records import record


def test_percentiles_are_exact() -> None:
    found = distribution(float(value) for value in range(100, -1, -1))
    assert found is not None
    assert (found.count, found.mean, found.median) == (101, 50.0, 50.0)
    assert (found.p90, found.p95, found.p99, found.max) == (90.0, 95.0, 99.0, 100.0)
    between = distribution([1.0, 2.0, None, 4.0, 8.0])
    assert between is not None
    assert (between.count, between.median) == (4, 3.0)
    assert between.p90 == pytest.approx(6.8)
    assert distribution([None]) is None
    one = distribution([7.0])
    assert one is not None
    assert (one.median, one.p99, one.max) == (7.0, 7.0, 7.0)


def test_rates_are_those_of_whole_answers() -> None:
    records = [record(), record(output_tokens=9, cached_tokens=4), record(error="HTTP 500", ttft_ms=9e9)]
    found = statistics(records, 4.0, Objectives())
    assert (found.completed, found.failed, found.errors) == (2, 1, {"HTTP 500": 1})
    assert (found.prompt_tokens, found.output_tokens, found.cached_tokens) == (16, 20, 4)
    assert (found.requests_per_s, found.output_tokens_per_s, found.total_tokens_per_s) == (0.5, 5.0, 9.0)
    assert found.ttft_ms is not None
    assert found.itl_ms is not None
    assert (found.ttft_ms.max, found.itl_ms.count, found.goodput) == (100.0, 20, None)


def test_prompts_the_server_did_not_count_are_as_long_as_they_were_made() -> None:
    assert statistics([record(prompt_tokens=None)], 1.0, Objectives()).prompt_tokens == 8


def test_nothing_ended() -> None:
    found = statistics([], 1.0, objectives(["ttft:1"]))
    assert (found.completed, found.ttft_ms, found.goodput) == (0, None, None)


def test_errors_are_counted_the_most_frequent_first() -> None:
    records = [record(error=kind) for kind in ("timeout", "HTTP 429", "HTTP 429", "disconnected", "HTTP 429")]
    found = statistics(records, 1.0, Objectives())
    assert next(iter(found.errors.items())) == ("HTTP 429", 3)
    assert found.errors == {"HTTP 429": 3, "timeout": 1, "disconnected": 1}


def test_goodput_is_the_share_that_keeps_every_objective() -> None:
    kept = objectives(["ttft:100 tpot:20", "e2e:500,itl:30"])
    assert kept.most == {"ttft": 100.0, "tpot": 20.0, "e2e": 500.0, "itl": 30.0}
    good = record()  # its TTFT is just what is allowed
    bad = [
        record(ttft_ms=100.1), record(tpot_ms=21.0), record(e2e_ms=501.0), record(itl_ms=[10.0, 31.0]),
        record(ttft_ms=None), record(error="timeout"),
    ]  # fmt: skip
    assert kept.met(good)
    assert kept.met(record(tpot_ms=None, itl_ms=[]))
    assert not any(kept.met(one) for one in bad[:5])
    assert statistics([good, good, *bad], 2.0, kept).goodput == Goodput(0.25, 1.0)
    assert objectives(["e2el:7"]).most == {"e2e": 7.0}


@pytest.mark.parametrize(
    "text", ["ttft", "ttft:", "ttft:x", "ttft:0", "ttft:-1", "ttft:inf", "ttft:nan", "x:1", ":1"]
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--goodput"):
        objectives([text])


def test_parts_are_apart_where_there_are_several() -> None:
    records = [record(part="a"), record(part="b"), record(part="b")]
    found = parted(["b", "a", "c"], records, 1.0, Objectives())
    assert {name: one.completed for name, one in found.items()} == {"b": 2, "a": 1, "c": 0}
    assert list(found) == ["b", "a", "c"]
    assert parted(["a"], records, 1.0, Objectives()) == {}


def test_concurrency_is_what_was_under_way_on_average() -> None:
    records = [record(due_s=0.0, sent_s=1.0, e2e_ms=3000.0), record(due_s=2.0, sent_s=2.0, e2e_ms=2000.0)]
    assert concurrency(records, 4.0) == 1.0

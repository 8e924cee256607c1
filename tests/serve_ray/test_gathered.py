"""Metrics of several replicas in one text that Prometheus can read."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from intaglio.serve_ray.gathered import gathered

TEXT = """\
# HELP tokens_total Tokens, generated.
# TYPE tokens_total counter
tokens_total{model="a b",how="x\\"}y"} 3.0
tokens_total{model="c"} 4.0
# HELP wait_seconds Waiting.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1.0
wait_seconds_bucket{le="+Inf"} 2.0
wait_seconds_sum 1.5
wait_seconds_count 2.0
# HELP up Whether.
# TYPE up gauge
up 1 1700000000000
"""


def test_every_sample_has_its_replica_and_every_family_is_described_once() -> None:
    text = gathered({"r1": TEXT, "r2": TEXT})
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert list(families) == ["tokens", "wait_seconds", "up"]
    assert text.count("# TYPE") == text.count("# HELP") == 3
    assert families["wait_seconds"].type == "histogram"
    alone = [sample for family in text_string_to_metric_families(TEXT) for sample in family.samples]
    for replica in ("r1", "r2"):
        found = [
            sample._replace(labels={k: v for k, v in sample.labels.items() if k != "replica"})
            for family in families.values()
            for sample in family.samples
            if sample.labels["replica"] == replica
        ]
        assert found == alone


def test_nothing_of_nobody() -> None:
    assert gathered({}) == ""
    assert gathered({"r1": ""}) == ""

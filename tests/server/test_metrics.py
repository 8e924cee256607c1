"""What /metrics and /stats tell of engines that ran."""

from __future__ import annotations

import asyncio
import json
import re
import timeit
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from starlette.testclient import TestClient

from intaglio.engine.output import SamplingParams
from intaglio.server.exchange import Exchange, Observed
from intaglio.server.generation import Generation
from intaglio.server.meter import HISTOGRAMS, Meter
from intaglio.server.metrics import Metrics
from intaglio.server.rate import Rate
from intaglio.server.refusal import Refusal
from intaglio.server.tally import Tally
from tests.server.stand_in import StandIn, served

MODEL = {"model_name": "m"}
MOMENTARY = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")


class Server:
    """A model that is served, and its metrics, without the rest of a server."""

    def __init__(self, **settings: int) -> None:
        self.metrics = Metrics()
        self.llm = StandIn(**settings)
        self.served = served(self.llm, self.metrics.watch("m"))
        self.app = FastAPI()
        self.app.state.models = [self.served]
        self.metrics.mount(self.app)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"intaglio:{name}", {**MODEL, **labels})

    def run(self, *lengths: int, tokens: int = 4, alike: bool = False) -> None:
        """Answer prompts of these lengths, all at once."""
        asyncio.run(self._run([[0 if alike else at] * n for at, n in enumerate(lengths)], tokens))

    async def _run(self, prompts: list[list[int]], tokens: int) -> None:
        engine = self.served.engine
        engine.start()
        asked = [engine.submit(prompt, SamplingParams(max_tokens=tokens)) for prompt in prompts]
        await asyncio.gather(*(one.whole() for one in asked), return_exceptions=True)
        await engine.close()


def test_counts_tokens_requests_and_times() -> None:
    server = Server()
    server.run(10, 300, tokens=4)
    assert server.value("prompt_tokens_total") == 310
    assert server.value("generation_tokens_total") == 8
    assert server.value("request_success_total", finished_reason="length") == 2
    assert server.value("request_success_total", finished_reason="abort") == 0
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time"):
        assert server.value(f"{name}_seconds_count") == 2, name
    assert server.value("request_decode_time_seconds_count") == 2
    assert server.value("inter_token_latency_seconds_count") == 6
    assert server.value("request_prompt_tokens_sum") == 310
    assert server.value("request_generation_tokens_bucket", le="5.0") == 2
    assert server.value("request_generation_tokens_bucket", le="2.0") == 0
    assert server.value("iteration_tokens_total_sum") == 318


def test_a_prompt_counts_as_it_is_computed() -> None:
    meter, generation = Meter(), _generation(prompt=300)
    meter.begun(generation, 0.0)
    for computed in (128, 256, 100):  # the last after a preemption
        generation.request.sequence.computed = computed
        meter.step(None, 0.1)  # type: ignore[arg-type]
    assert meter.counts["prompt_tokens"] == 256
    generation.shown = 1
    meter.first_token(generation, 0.3)
    meter.step(None, 0.1)  # type: ignore[arg-type]
    assert meter.counts["prompt_tokens"] == 300
    assert not meter._prefilling


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_request_that_is_broken_off_leaves_nothing_behind(reason: str) -> None:
    meter, prefilling, answering = Meter(), _generation(), _generation()
    meter.begun(prefilling, 0.0)
    answering.shown, answering.first, answering.last = 1, answering.arrived + 1, answering.arrived + 2
    for generation in (prefilling, answering):
        meter.finished(generation, reason)
    assert not meter._prefilling
    assert meter.finished_by[reason] == 2
    assert meter.tallies["e2e_request_latency_seconds"].total == 0  # of those answered only


def test_gauges_follow_the_scheduler_and_return_to_zero() -> None:
    server = Server(max_sequences=2)
    for n in (100, 100, 100):
        server.llm.add(server.llm.prepare([1] * n, SamplingParams(max_tokens=4)))
    server.llm.step()
    seen = {name: server.value(name) for name in MOMENTARY}
    assert seen["num_requests_running"] == 2
    assert seen["num_requests_waiting"] == 1
    assert seen["kv_cache_usage_perc"] == pytest.approx(4 / 64)
    while server.llm.scheduler.busy:
        server.llm.step()
    assert {name: server.value(name) for name in MOMENTARY} == dict.fromkeys(MOMENTARY, 0)


def test_after_a_run_no_gauge_is_left_up() -> None:
    server = Server(pages=8)  # so that some are preempted
    server.run(*[60] * 12, tokens=100)
    assert server.value("num_preemptions_total") == server.llm.scheduler.preemptions > 0
    assert {name: server.value(name) for name in MOMENTARY} == dict.fromkeys(MOMENTARY, 0)
    stats = server.metrics.gauges(server.served)
    assert (stats["running"], stats["waiting"], stats["kv_cache_usage"]) == (0, 0, 0)
    assert stats["requests_total"] == 12
    assert not server.metrics._meters["m"]._prefilling


def test_a_failed_step_ends_requests_as_errors() -> None:
    server = Server()
    server.llm.fails = 1
    server.run(10)
    assert server.value("request_success_total", finished_reason="error") == 1
    assert server.value("time_to_first_token_seconds_count") == 0
    assert server.value("e2e_request_latency_seconds_count") == 0


def test_a_request_that_fails_alone_is_an_error() -> None:
    server = Server()
    server.llm.refuses = "its mask allows nothing"
    server.run(10, 10)
    assert server.value("request_success_total", finished_reason="error") == 1
    assert server.value("request_success_total", finished_reason="length") == 1
    assert server.value("time_to_first_token_seconds_count") == 1


def test_stats_have_what_the_page_shows() -> None:
    server = Server(max_tokens=256)
    server.run(100, 100, tokens=50, alike=True)
    stats = server.metrics.gauges(server.served)
    assert stats["id"] == "m"
    assert stats["kv_pages"] == 64
    assert stats["prefix_hit_rate"] == 0.32  # a page of 64 tokens, of 200
    assert stats["tokens_per_second"] == pytest.approx(stats["prompt_tokens_per_second"] / 2)
    assert stats["tokens_per_second"] >= 100 / 5
    assert server.value("prefix_cache_queries_total") == 200
    assert server.value("prefix_cache_hits_total") == 64


def test_tells_what_the_weights_take_and_which_kernels_run() -> None:
    server = Server()
    assert server.value("weight_bits") == 64 * 8 / 128
    assert server.value("weight_bytes") == 64
    assert server.value("kv_bytes_per_token") == 96
    assert server.value("kernel_sites", kernel="two_level") == 4
    assert server.value("kernel_sites", kernel="decoded") == 1


def test_drafts_share_the_time_they_came_in() -> None:
    meter = Meter()
    meter.tokens(_generation(), 4, 0.02)
    assert dict(meter.tallies["inter_token_latency_seconds"].cumulative())["0.005"] == 4
    generation = _generation()
    generation.request.sequence.drafts.observe(5, 3)
    meter.finished(generation, "abort")
    assert meter.counts["spec_decode_num_draft_tokens"] == 5
    assert meter.counts["spec_decode_num_accepted_tokens"] == 3


def test_two_servers_share_nothing() -> None:
    one, other = Server(), Server()
    one.run(10)
    assert one.value("prompt_tokens_total") == 10
    assert other.value("prompt_tokens_total") == 0


def test_models_are_told_apart() -> None:
    metrics = Metrics()
    meter = metrics.watch("a")
    metrics.watch("b")
    meter.finished(_generation(), "abort")
    labels = {"finished_reason": "abort"}
    assert (
        metrics.registry.get_sample_value("intaglio:request_success_total", {**labels, "model_name": "a"})
        == 1
    )
    assert (
        metrics.registry.get_sample_value("intaglio:request_success_total", {**labels, "model_name": "b"})
        == 0
    )


# --- over HTTP


def test_prometheus_reads_the_text() -> None:
    server = Server()
    server.run(10)
    answer = TestClient(server.app).get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in plain(answer.text)}
    assert {"intaglio:generation_tokens", "intaglio:time_to_first_token_seconds"} <= names
    assert "process_resident_memory_bytes" in names


def test_openmetrics_is_negotiated() -> None:
    server = Server()
    server.run(10)
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    answer = TestClient(server.app).get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "intaglio:prompt_tokens" in {family.name for family in openmetrics(answer.text)}


@pytest.mark.parametrize("version", ["x", "1.0.0.0.0", "-1", "9" * 5000, "1e9", "1.0.0\u00e9", ""])
def test_an_absurd_accept_header_is_no_error(version: str) -> None:
    headers = [("accept", f"application/openmetrics-text; version={version}".encode("latin-1"))]
    answer = TestClient(Server().app).get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert "intaglio:weight_bits" in answer.text


def test_requests_count_by_route_and_never_by_path() -> None:
    server = Server()
    server.app.add_api_route("/v1/models/{name:path}", lambda name: name, methods=["GET"])
    client = TestClient(Observed(server.app, [server.metrics.traffic]))
    for path in ("/v1/models/a", "/v1/models/b", "/nowhere/a", "/nowhere/b"):
        client.get(path)
    client.request("BREW", "/v1/models/a")
    client.get("/metrics")

    def count(**labels: str) -> float | None:
        return server.metrics.registry.get_sample_value("intaglio:http_requests_total", labels)

    assert count(method="GET", route="/v1/models/{name:path}", status="200") == 2
    assert count(method="GET", route="other", status="404") == 2
    assert count(method="other", route="/v1/models/{name:path}", status="405") == 1
    assert count(method="GET", route="/metrics", status="200") == 1


def test_requests_in_progress_are_counted_and_return_to_zero() -> None:
    metrics, seen = Metrics(), []

    def in_progress() -> float | None:
        return metrics.registry.get_sample_value("intaglio:http_requests_in_progress")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(in_progress())
        raise Refusal(400, "no")

    client = TestClient(Observed(app, [metrics.traffic]))
    with pytest.raises(Refusal):
        client.get("/x")
    with pytest.raises(Refusal):
        client.get("/metrics")
    assert seen == [1, 0]
    assert in_progress() == 0


# --- parts


def test_a_tally_counts_at_most_its_bounds() -> None:
    tally = Tally((1, 2.5))
    for value in (0.5, 1, 2.5, 3):
        tally.observe(value)
    tally.observe(2, times=3)
    assert tally.cumulative() == [("1.0", 2), ("2.5", 6), ("+Inf", 7)]
    assert tally.total == 13


def test_a_rate_forgets_what_is_older_than_its_window() -> None:
    rate = Rate()
    for second in range(100, 110):
        rate.add(10, second + 0.5)
    assert rate.per_second(110.0) == pytest.approx(10)
    assert rate.per_second(112.0) == pytest.approx(5)
    assert rate.per_second(130.0) == 0


def test_what_is_called_for_every_token_is_cheap() -> None:
    meter, generation = Meter(), _generation()
    best = min(timeit.repeat(lambda: meter.tokens(generation, 1, 0.03), number=2000, repeat=20)) / 2000
    assert best < 5e-6  # less than 2 µs on a machine that is busy otherwise


def test_bounds_ascend() -> None:
    for name, (_, bounds) in HISTOGRAMS.items():
        assert list(bounds) == sorted(set(bounds)), name


def _generation(prompt: int = 10) -> Any:
    llm = StandIn()
    return Generation(llm.prepare([1] * prompt, SamplingParams(max_tokens=4)), 0.0)  # type: ignore[arg-type]


# --- the dashboard

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"


def test_the_dashboard_asks_for_what_is_exported() -> None:
    server = Server()
    exported: dict[str, set[str]] = {}
    server.metrics.traffic.ended(_exchange())
    for family in server.metrics.registry.collect():
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    queries = _queries()
    assert len(queries) > 30
    for query in queries:
        names = METRIC.findall(query)
        assert names, query
        for name, _, wanted in names:
            assert name in exported, query
            assert set(LABEL.findall(wanted)) <= exported[name], query


def test_the_dashboard_shows_everything_that_is_ours() -> None:
    asked = {name for query in _queries() for name, _, _ in METRIC.findall(query)}
    families = {family.name for family in Server().metrics.registry.collect()}
    missing = [
        name
        for name in families
        if name.startswith("intaglio:") and not any(one.startswith(name) for one in asked)
    ]
    assert missing == []


def test_the_dashboard_is_templated_and_its_panels_do_not_overlap() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert {one["name"] for one in board["templating"]["list"]} == {"datasource", "model"}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


METRIC = re.compile(r"\b((?:intaglio:|process_)\w+)(\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)=")


def _queries() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return [*asked, *(one["definition"] for one in board["templating"]["list"] if one["type"] == "query")]


def _exchange() -> Exchange:
    return Exchange({"type": "http", "method": "GET", "path": "/"})

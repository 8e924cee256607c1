"""Metrics: what the engines and the server do, for Prometheus at /metrics and for people at /stats."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

from intaglio.engine.pages import PAGE
from intaglio.models import scheme
from intaglio.server.meter import COUNTERS, HISTOGRAMS, Meter
from intaglio.server.traffic import Traffic

if TYPE_CHECKING:
    from intaglio.engine.llm import LLM
    from intaglio.engine.matrices import Line
    from intaglio.engine.scheduler import Scheduler
    from intaglio.server.engine import Watch
    from intaglio.server.served import Served

PREFIX = "intaglio:"
LABELS = ("model_name",)


class Metrics(Collector):
    """Of one server. `traffic` watches its HTTP requests; models are told apart by the label model_name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.traffic = Traffic(self.registry)
        self._meters: dict[str, Meter] = {}
        self._served: Iterable[Served] = ()
        self._fixed: list[Metric] = []  # what does not change while a model is served
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def watch(self, name: str) -> Watch:
        """For the engine of the model of that name."""
        return self._meters.setdefault(name, Meter())

    def mount(self, app: FastAPI) -> None:
        """GET /metrics, of the application's models."""
        self._served = app.state.models
        self._fixed = list(_fixed(self._served))
        app.add_api_route("/metrics", self._expose, methods=["GET"], response_class=Response)

    def gauges(self, served: Served) -> dict[str, Any]:
        """What a model's engine does at the moment; rates a second are of the last few."""
        meter, scheduler = self._meters[served.name], served.llm.scheduler
        now = time.monotonic()
        return {
            "id": served.name,
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "kv_cache_usage": scheduler.pool.used,
            "kv_pages": scheduler.pool.count,
            "tokens_per_second": meter.generation_rate.per_second(now),
            "prompt_tokens_per_second": meter.prompt_rate.per_second(now),
            "prefix_hit_rate": scheduler.prefix_hits / max(scheduler.prefix_queries, 1),
            "requests_total": sum(meter.finished_by.values()),
        }

    def collect(self) -> Iterator[Metric]:
        """For the registry, at every scrape."""
        yield from self._fixed
        yield from _scheduled(self._served)
        yield from self._counted()
        for name, (said, _) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(PREFIX + name, said, labels=LABELS)
            for model, meter in self._meters.items():
                tally = meter.tallies[name]
                histogram.add_metric([model], tally.cumulative(), tally.total)
            yield histogram

    def _counted(self) -> Iterator[Metric]:
        for name, said in COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, said, labels=LABELS)
            for model, meter in self._meters.items():
                counter.add_metric([model], meter.counts[name])
            yield counter
        said = "Requests that ended, by why they did."
        ended = CounterMetricFamily(PREFIX + "request_success", said, labels=(*LABELS, "finished_reason"))
        for model, meter in self._meters.items():
            for reason, count in meter.finished_by.items():
                ended.add_metric([model, reason], count)
        yield ended

    def _expose(self, request: Request) -> Response:
        """What is measured, in the form that was asked for: Prometheus' text or OpenMetrics."""
        try:
            encode, kind = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # what comes of a version that is none
            encode, kind = choose_encoder("")
        return Response(encode(self.registry), headers={"content-type": kind})


def _scheduled(models: Iterable[Served]) -> Iterator[Metric]:
    """What the schedulers hold and have counted, read in the thread of the scrape.

    The engines' threads change these meanwhile. The length of a list and an int are read in one step under
    the GIL, so each number is one that was true; two of them may be of different moments.
    """
    for name, (family, said, read) in SCHEDULED.items():
        metric = family(PREFIX + name, said, labels=LABELS)
        for served in models:
            metric.add_metric([served.name], read(served.llm.scheduler))
        yield metric


def _fixed(models: Iterable[Served]) -> Iterator[Metric]:
    """What the weights take and who multiplies by them."""
    for name, (said, read) in FIXED.items():
        metric = GaugeMetricFamily(PREFIX + name, said, labels=LABELS)
        for served in models:
            metric.add_metric([served.name], read(served.llm))
        yield metric
    kernels = GaugeMetricFamily(
        PREFIX + "kernel_sites", "Matrices of the model that each kernel runs.", labels=(*LABELS, "kernel")
    )
    for served in models:
        for kernel, sites in _sites(served.llm.executor.plan).items():
            kernels.add_metric([served.name, kernel], sites)
    yield kernels


def _sites(plan: Iterable[Line]) -> Counter[str]:
    sites: Counter[str] = Counter()
    for line in plan:
        sites[line.kernel] += len(line.sites)
    return sites


SCHEDULED: dict[
    str, tuple[type[GaugeMetricFamily | CounterMetricFamily], str, Callable[[Scheduler], float]]
] = {
    "num_requests_running": (GaugeMetricFamily, "Requests that run.", lambda s: len(s.running)),
    "num_requests_waiting": (
        GaugeMetricFamily,
        "Requests that wait for a place or pages.",
        lambda s: len(s.waiting),
    ),
    "kv_cache_usage_perc": (
        GaugeMetricFamily,
        "Share of the KV pages in use, 0 to 1.",
        lambda s: s.pool.used,
    ),
    "prefix_cache_queries": (
        CounterMetricFamily,
        "Tokens of prompts looked for in the prefix cache.",
        lambda s: s.prefix_queries,
    ),
    "prefix_cache_hits": (CounterMetricFamily, "Of these, those found there.", lambda s: s.prefix_hits),
    "num_preemptions": (
        CounterMetricFamily,
        "Requests that gave their pages back and were computed again.",
        lambda s: s.preemptions,
    ),
}
FIXED: dict[str, tuple[str, Callable[[LLM], float]]] = {
    "weight_bits": (
        "Bits stored for each weight of the original model.",
        lambda llm: scheme.bits_per_weight(llm.checkpoint, scheme.parameters(llm.checkpoint)),
    ),
    "weight_bytes": ("Bytes stored for all weights.", lambda llm: llm.checkpoint.nbytes),
    "kv_bytes_per_token": (
        "Bytes that keys and values of one token take in all layers.",
        lambda llm: llm.executor.cache_nbytes / (llm.executor.pool.count * PAGE),
    ),
}

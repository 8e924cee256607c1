"""Traffic: HTTP requests counted for Prometheus, by method, route and status."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from intaglio.server.exchange import Exchange

SCRAPE = "/metrics"  # would count itself as in progress


class Traffic:
    """An `Observer`. Labels are routes and never paths, so that a stranger cannot make more of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "intaglio:http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._in_progress = Gauge(
            "intaglio:http_requests_in_progress",
            "HTTP requests that are being answered, scrapes aside.",
            registry=registry,
        )

    def began(self, exchange: Exchange) -> None:
        if exchange.path != SCRAPE:
            self._in_progress.inc()

    def ended(self, exchange: Exchange) -> None:
        if exchange.path != SCRAPE:
            self._in_progress.dec()
        self._requests.labels(exchange.method, exchange.route, str(exchange.status)).inc()

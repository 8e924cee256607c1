"""The application: an ingress before replicas that come and go with the load."""

import os
from functools import partial
from typing import TYPE_CHECKING

from intaglio.errors import UsageError
from intaglio.lazy import lazy
from intaglio.serve_ray.arguments import Arguments
from intaglio.server.settings import Settings

if TYPE_CHECKING:
    import ray
    from ray import serve
else:
    ray = lazy("ray", extra="serve-ray")
    serve = lazy("ray.serve", extra="serve-ray")

ROUTER = "intaglio.serve_ray.router.AffinityRouter"
CLIENTS = 4096  # requests at one ingress


def build(arguments: Arguments) -> "serve.Application":
    """Ray Serve calls this with what it was given; raises what pydantic does for arguments that cannot be.

    Clients must have a key of INTAGLIO_API_KEY, in the environment of whoever builds; spaces part several.
    """
    # NOTE: no `from __future__ import annotations` here: Ray reads the type of `arguments`.
    from intaglio.serve_ray.engines import assemble
    from intaglio.serve_ray.ingress import Ingress
    from intaglio.serve_ray.replica import Replica

    threads = arguments.threads or smallest_machine()
    replicas = serve.deployment(Replica).options(
        ray_actor_options={"num_cpus": threads},
        max_ongoing_requests=2 * arguments.max_num_seqs,  # the rest waits where a new replica can take it
        max_queued_requests=arguments.max_waiting,
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": arguments.target_ongoing_requests or arguments.max_num_seqs / 2,
            "upscale_delay_s": arguments.upscale_delay_s,
            "downscale_delay_s": arguments.downscale_delay_s,
        },
        request_router_config={"request_router_class": ROUTER},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=arguments.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
    )
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        num_replicas=arguments.ingress_replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=CLIENTS,
        graceful_shutdown_timeout_s=arguments.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
    )
    engines = replicas.bind(partial(assemble, arguments, threads))
    return ingress.bind(engines, settings(arguments), arguments.log_format)


def settings(arguments: Arguments) -> Settings:
    """Of the ingress: where Ray's proxies listen is Ray's affair."""
    keys = tuple(os.environ.get("INTAGLIO_API_KEY", "").split())
    return Settings(host="0.0.0.0", api_keys=keys, origins=tuple(arguments.allowed_origin), page=False)


def smallest_machine() -> int:
    """CPUs of the smallest machine that has any."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if not any(cpus):
        raise UsageError("no machine of the cluster has CPUs yet: give threads, the CPUs of one replica")
    return min(filter(None, cpus))

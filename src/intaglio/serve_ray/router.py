"""The router: where a handle sends a request. Ray Serve finds it by its name and runs it in every caller."""

from __future__ import annotations

import random

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from intaglio.serve_ray.affinity import ranked


class AffinityRouter(RequestRouter):  # type: ignore[misc]  # Ray has no types here
    """By the key that the caller gave as `session_id`; without one, the less busy of two drawn at random."""

    queue_len_response_deadline_s = 1.0  # a replica whose engine has all CPUs is slow to say how it is

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Groups to be tried one after another; of a group, the least busy replica that has room."""
        if not candidate_replicas or pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # wait before the next round, when all are full
        if not pending_request.metadata.session_id:
            return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        queues = {name: self._queue(replica) for name, replica in replicas.items()}
        return [[replicas[name]] for name in ranked(pending_request.metadata.session_id, queues)]

    def _queue(self, replica: RunningReplica) -> int:
        """Requests it has, as far as this caller knows."""
        return self.replica_queue_len_cache.get(replica.replica_id) or 0

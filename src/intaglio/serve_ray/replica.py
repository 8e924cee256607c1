"""A replica: one process with engines, asked by the ingress instead of through a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import uvicorn
from ray import serve
from starlette.types import ASGIApp
from uvicorn.lifespan.on import LifespanOn

from intaglio.errors import IntaglioError
from intaglio.serve_ray.answer import Answer, Call, Head, Whole


class Replica:
    """`assemble` makes the application that `intaglio serve` would run."""

    async def __init__(self, assemble: Callable[[], ASGIApp]) -> None:  # type: ignore[misc]  # Ray awaits it
        self._app = assemble()
        self._lifespan = LifespanOn(uvicorn.Config(self._app, lifespan="on", log_config=None))
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise IntaglioError("the engines did not start; the replica's log says why")

    async def answer(self, call: Call) -> AsyncIterator[Head | bytes]:
        """The head and the pieces of the body as they come; whoever leaves the loop ends the request."""
        async for part in Answer(self._app, call):
            yield part

    async def whole(self, call: Call) -> tuple[str, Whole]:
        """The replica's name, as Ray has it, and its answer."""
        name = serve.get_replica_context().replica_id.unique_id
        return name, await Answer(self._app, call).whole()

    async def check_health(self) -> None:
        """Raises when requests are better answered elsewhere: Ray then replaces this replica."""
        _, answer = await self.whole(Call("GET", "/health"))
        if answer.head.status != 200:
            raise IntaglioError(f"the replica is not well: {answer.body.decode()}")

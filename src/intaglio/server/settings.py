"""What a server is told at its start, and what it lets a stranger ask for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on a request; each is checked before any work is done for it."""

    body_bytes: int = 8 << 20
    body_seconds: float = 30.0  # until all of a body has come
    write_seconds: float = 60.0  # until a client takes a piece of its answer
    prompts: int = 256  # in one request
    choices: int = 64  # `n` times prompts
    messages: int = 4096
    stops: int = 16
    stop_characters: int = 256  # in each
    biases: int = 1024  # tokens of logit_bias
    seconds: float = 3600.0  # a request's deadline, unless it asks for a shorter one


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`max_waiting`: requests that may wait for a place in a model's batch before others are turned away.

    `api_keys`: without any, everybody may ask. `origins`: of pages in browsers that may ask (CORS).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_waiting: int = 256
    drain_seconds: float = 30.0
    page: bool = True
    limits: Limits = field(default_factory=Limits)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

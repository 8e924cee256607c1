"""Target: where the server is and what it is asked for."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from intaglio.errors import UsageError

DEFAULT = "http://127.0.0.1:8000"
CHAT, PLAIN = "/chat/completions", "/completions"
PORTS = {"http": 80, "https": 443}


class Target(msgspec.Struct, frozen=True):
    """`root`: what stands before every path; `endpoint`: the path that is asked, without it."""

    scheme: str
    host: str
    port: int
    root: str
    endpoint: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.root}"

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def chat(self) -> bool:
        return self.endpoint.endswith(CHAT)

    @property
    def version(self) -> str:
        """What stands before `completions`: /v1."""
        return self.endpoint.removesuffix(CHAT if self.chat else PLAIN)


def target(url: str, endpoint: str) -> Target:
    """A server's URL, with or without the /v1 that clients of OpenAI's API are given, and an endpoint."""
    if not endpoint.startswith("/") or not endpoint.endswith(PLAIN):
        raise UsageError(f"--endpoint {endpoint}: expected /v1/completions, /v1/chat/completions or the like")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"URL {url}: {error}; expected one like {DEFAULT}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise UsageError(
            f"URL {url}: expected one like {DEFAULT} (several --goodput go in one pair of quotes)"
        )
    if parts.username or parts.query or parts.fragment:
        raise UsageError(f"URL {parts.hostname}: expected host, port and path only, as in {DEFAULT}")
    root = parts.path.rstrip("/")
    version = endpoint.removesuffix(CHAT).removesuffix(PLAIN)
    return Target(
        parts.scheme, parts.hostname, port or PORTS[parts.scheme], root.removesuffix(version), endpoint
    )

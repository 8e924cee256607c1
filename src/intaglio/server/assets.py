"""The page's files as routes: read once, served from memory, and nothing but them may run in the page."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-cache",  # kept, and asked for each time: the names stay when the contents change
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Asset:
    """One file: its bytes, their type, and the tag by which a browser knows that it has them."""

    def __init__(self, name: str, body: bytes) -> None:
        self.body = body
        self.tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self.headers = {**HEADERS, "content-type": TYPES[name.rpartition(".")[2]], "etag": self.tag}

    async def __call__(self, request: Request) -> Response:
        if self._known(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=self.headers)
        return Response(self.body, headers=self.headers)

    def _known(self, tags: str) -> bool:
        return tags.strip() == "*" or self.tag in (tag.strip().removeprefix("W/") for tag in tags.split(","))


def routes() -> list[Route]:
    """`/` is the page, `/page/NAME` each file that it is made of; only names that are there are served."""
    folder = files(__package__).joinpath("page")
    assets = {
        file.name: Asset(file.name, file.read_bytes()) for file in folder.iterdir() if _served(file.name)
    }
    page = assets.pop("index.html")
    return [
        Route("/", page.__call__),
        *(Route(f"/page/{name}", file.__call__) for name, file in assets.items()),
    ]


def _served(name: str) -> bool:
    return name.rpartition(".")[2] in TYPES

"""The page's files as they are served: types, tags, a policy, and nothing but them."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from intaglio.server.assets import POLICY, routes

PAGE = Path(str(files("intaglio.server"))) / "page"
NAMES = sorted(file.name for file in PAGE.iterdir())


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=routes()))


def address(name: str) -> str:
    return "/" if name == "index.html" else f"/page/{name}"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_served_with_its_type(client: TestClient, name: str) -> None:
    answer = client.get(address(name))
    assert answer.content == (PAGE / name).read_bytes()
    kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].split(";")[0] == kind[name.split(".")[1]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-cache"


def test_the_policy_allows_no_inline_code_and_no_other_host() -> None:
    rules = {rule.split()[0]: rule.split()[1:] for rule in POLICY.split("; ")}
    assert (
        rules["default-src"]
        == rules["base-uri"]
        == rules["form-action"]
        == rules["frame-ancestors"]
        == ["'none'"]
    )
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    assert rules["img-src"] == ["'self'", "data:"]


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    for said in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = client.get("/", headers={"if-none-match": said})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get("/", headers={"if-none-match": '"other"'}).status_code == 200


def test_tags_differ_between_files(client: TestClient) -> None:
    assert len({client.get(address(name)).headers["etag"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    "path",
    ["/page/", "/page/index.html", "/page/../assets.py", "/page/%2e%2e/assets.py", "/page/..%2fassets.py"],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_other_methods_are_refused(client: TestClient) -> None:
    assert client.post("/").status_code == 405
    assert client.head("/").status_code == 200


def test_the_page_is_small() -> None:
    assert sum(file.stat().st_size for file in PAGE.iterdir()) < 60 * 1024


def test_whatever_is_named_is_there_and_comes_from_here() -> None:
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8")
        named = re.findall(r'(?:from|import) "\./([^"]+)"', text) + re.findall(
            r'(?:href|src)="page/([^"]+)"', text
        )
        assert set(named) <= set(NAMES)
        assert set(re.findall(r"https?://[^\s\"'`)\\]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_text_is_never_parsed_as_markup() -> None:
    parsing = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function"
    )
    for script in PAGE.glob("*.js"):
        assert not parsing.search(script.read_text(encoding="utf-8")), script.name

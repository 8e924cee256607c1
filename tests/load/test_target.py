"""URLs as people write them."""

from __future__ import annotations

import pytest

from intaglio.errors import UsageError
from intaglio.load.target import CHAT, PLAIN, target


@pytest.mark.parametrize(
    ("url", "shown", "root"),
    [
        ("http://h:8000", "http://h:8000", ""),
        ("http://h:8000/", "http://h:8000", ""),
        ("http://h:8000/v1", "http://h:8000", ""),
        ("http://h:8000/v1/", "http://h:8000", ""),
        ("https://h/api/v1", "https://h:443/api", "/api"),
        ("http://[::1]:80", "http://[::1]:80", ""),
        ("http://h/v3", "http://h:80/v3", "/v3"),
    ],
)
def test_the_root_stands_before_every_path(url: str, shown: str, root: str) -> None:
    found = target(url, "/v1/completions")
    assert (found.url, found.root, found.version, found.chat) == (shown, root, "/v1", False)


def test_endpoints() -> None:
    assert target("http://h", "/v3" + CHAT).version == "/v3"
    assert target("http://h", "/v1" + CHAT).chat
    assert target("http://h", PLAIN).version == ""
    for wrong in ("v1/completions", "/v1/embeddings", ""):
        with pytest.raises(UsageError, match="--endpoint"):
            target("http://h", wrong)


@pytest.mark.parametrize(
    "url",
    [
        "h:8000",
        "tpot:50",
        "",
        "ftp://h",
        "http://",
        "http://h:x",
        "http://h:99999",
        "http://[h",
        "http://h?a=1",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        target(url, "/v1/completions")


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError) as refused:
        target("http://user:secret@h:80", "/v1/completions")
    assert "secret" not in str(refused.value)

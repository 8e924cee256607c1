"""Whatever a stranger sends, the answer is never a 5xx: by the description of the API, and against it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.serving import Running

schemathesis = pytest.importorskip("schemathesis", reason="pip install 'intaglio[dev]'")
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize")
FIELDS = (
    *("model", "messages", "prompt", "input", "tokens", "max_tokens", "n", "stop", "stream", "temperature"),
    *("top_p", "seed", "logprobs", "echo", "logit_bias", "response_format", "tools", "tool_choice"),
    *("structured_outputs", "stream_options", "timeout", "priority"),
)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
near = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=8)  # the right names, any values
nearer = st.fixed_dictionaries(  # a request that would do, but for one field
    {
        "prompt": st.just("ab"),
        "messages": st.just([{"role": "user", "content": "a"}]),
        "max_tokens": st.just(1),
    },
    optional={name: anything for name in FIELDS if name not in ("prompt", "messages", "max_tokens")},
)


def calm(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def answered(running: Running, path: str, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    answer = httpx.post(running.url + path, content=body, headers=headers, timeout=60)
    assert answer.status_code < 500 or answer.status_code == 504, (
        path,
        body,
        answer.text,
    )  # 504: a deadline of its own
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return answer


@calm(60)
@given(path=st.sampled_from(PATHS), body=st.one_of(near, nearer, anything))
def test_any_json(running: Running, path: str, body: Any) -> None:
    answered(running, path, json.dumps(body).encode("utf-8", "surrogatepass"))


@calm(40)
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=200))
def test_any_bytes(running: Running, path: str, body: bytes) -> None:
    answered(running, path, body)


def test_a_body_as_deep_as_it_can_be(running: Running) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for path in PATHS:
        assert answered(running, path, deep).status_code == 400
        assert answered(running, path, b'{"messages": ' + deep + b"}").status_code == 400


def described(running: Running) -> Any:
    return schemathesis.openapi.from_dict(httpx.get(f"{running.url}/openapi.json").json())


@pytest.mark.parametrize("path", PATHS)
def test_the_description_finds_no_failure(running: Running, path: str) -> None:
    """schemathesis makes requests from the OpenAPI description, right ones and wrong ones."""
    operation = described(running)[path]["POST"]

    @calm(25)
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        if isinstance(case.body, dict):
            case.body["stream"] = False
            for name in ("max_tokens", "max_completion_tokens"):
                if isinstance(case.body.get(name), int):
                    case.body[name] = min(case.body[name], 4)
        answer = case.call(base_url=running.url, timeout=60)
        assert answer.status_code < 500 or answer.status_code == 504, answer.text

    ask()

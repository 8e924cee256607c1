"""Arguments as `serve run` and a config give them."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from intaglio.errors import UsageError
from intaglio.serve_ray import Arguments, application, build
from intaglio.serve_ray.application import settings


def test_of_a_command_line_all_are_texts() -> None:
    given = Arguments.model_validate(
        {
            "model": "models/a/",
            "threads": "4",
            "kv_bits": "8",
            "kv_cache_memory": "2GB",
            "drain_seconds": "5",
            "allowed_origin": "https://a.example",
        }
    )
    assert (given.model, given.names, given.threads, given.kv) == (["models/a/"], ["a"], 4, "int8")
    assert (given.kv_cache_memory, given.allowed_origin) == (2 * 10**9, ["https://a.example"])


def test_several_models() -> None:
    assert Arguments(model=["x/a", "x/b"]).names == ["a", "b"]
    assert Arguments(model=["x/a", "y/a"], served_model_name=["p", "q"]).names == ["p", "q"]


def test_a_replica_fills_the_smallest_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def cluster(*cpus: float) -> None:
        nodes = [{"Alive": True, "Resources": {"CPU": each}} for each in cpus]
        nodes += [{"Alive": False, "Resources": {"CPU": 1.0}}, {"Alive": True, "Resources": {}}]
        monkeypatch.setattr(application, "ray", SimpleNamespace(nodes=lambda: nodes))

    cluster(16.0, 8.0, 0.0)
    assert application.smallest_machine() == 8
    cluster(0.0)
    with pytest.raises(UsageError, match="give threads"):
        application.smallest_machine()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "model"),
        ({"model": "a", "modle": "b"}, "modle"),
        ({"model": "a", "min_replicas": 0}, "min_replicas"),
        ({"model": "a", "min_replicas": 3, "max_replicas": 2}, "max_replicas is 2, min_replicas 3"),
        ({"model": ["x/a", "y/a"]}, "two models would be called 'a'"),
        ({"model": "a", "served_model_name": ["p", "q"]}, "1 models and 2 names"),
        ({"model": "a", "kv_bits": 5}, "kv_bits is 5, expected 4, 8, 16"),
        ({"model": []}, "model"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Arguments.model_validate(wrong)


def test_ray_can_read_the_type_of_what_it_gives() -> None:
    (parameter,) = inspect.signature(build).parameters.values()
    assert parameter.annotation is Arguments


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTAGLIO_API_KEY", raising=False)
    assert settings(Arguments(model="a")).api_keys == ()
    monkeypatch.setenv("INTAGLIO_API_KEY", "one two")
    assert settings(Arguments(model="a")).api_keys == ("one", "two")

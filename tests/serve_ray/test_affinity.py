"""Prompts that begin alike meet, others spread, and little moves when replicas come and go."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from intaglio.serve_ray.affinity import PATHS, SLACK, key, ranked

CHAT, PLAIN = PATHS
LONG = "You answer questions about the law of the sea. " * 8  # 376 characters
KEYS = [f"key {index}" for index in range(2000)]
FOUR = {"a": 0, "b": 0, "c": 0, "d": 0}


def chat(*messages: tuple[str, str], **more: Any) -> str:
    said = [{"role": role, "content": content} for role, content in messages]
    return key(CHAT, json.dumps({"model": "m", "messages": said, **more}).encode())


def prompt(prompt: Any, **more: Any) -> str:
    return key(PLAIN, json.dumps({"model": "m", "prompt": prompt, **more}).encode())


def test_a_conversation_keeps_its_key_while_it_grows() -> None:
    turns = [("user", "Hi"), ("assistant", "Hello! " * 50), ("user", "More " * 100), ("assistant", "Yes")]
    assert len({chat(*turns[:length]) for length in (1, 3, 4)}) == 1


def test_questions_under_one_system_message_meet() -> None:
    keys = {chat(("system", LONG), ("user", f"Question {index}?")) for index in range(10)}
    assert len(keys) == 1
    assert chat(("system", LONG.replace("sea", "air")), ("user", "Question 0?")) not in keys


def test_questions_about_one_long_text_meet() -> None:
    assert len({prompt(f"{LONG * 4} Question {index}?") for index in range(10)}) == 1
    assert len({prompt([*range(400), index]) for index in range(1000, 1010)}) == 1


def test_other_beginnings_models_and_salts_are_other_keys() -> None:
    asked = [chat(("user", f"{index}")) for index in range(50)]
    asked += [prompt("0"), chat(("user", "0"), model="n"), chat(("user", "0"), cache_salt="s")]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", b'{"input": "a"}'),
        ("/tokenize", b'{"prompt": "a"}'),
        (CHAT, b'{"messages": []}'),
        (PLAIN, b"{}"),
        (PLAIN, b"{"),
        (CHAT, b'{"messages": 3}'),
        (CHAT, b'{"messages": [3]}'),
        (PLAIN, b'{"prompt": ' + b"[" * 100_000),
    ],
)
def test_what_has_no_beginning_may_go_anywhere(path: str, body: bytes) -> None:
    assert key(path, body) == ""


def test_keys_spread_over_replicas() -> None:
    shares = Counter(ranked(each, FOUR)[0] for each in KEYS)
    assert set(shares) == set(FOUR)
    assert max(shares.values()) < 1.2 * len(KEYS) / len(FOUR)


def test_only_the_share_of_the_one_that_comes_moves() -> None:
    for count in range(1, 6):
        before = {f"replica {index}": 0 for index in range(count)}
        after = {**before, "new": 0}
        moved = [each for each in KEYS if ranked(each, before)[0] != ranked(each, after)[0]]
        assert {ranked(each, after)[0] for each in moved} == {"new"}
        assert len(moved) < 1.2 * len(KEYS) / len(after)


def test_the_keys_of_the_one_that_goes_have_their_second_choice() -> None:
    left = {name: 0 for name in FOUR if name != "c"}
    for each in KEYS:
        first, second = ranked(each, FOUR)[:2]
        assert ranked(each, left)[0] == (second if first == "c" else first)


def test_a_replica_that_is_far_behind_is_the_last_choice() -> None:
    first, second, *_ = ranked("hot", FOUR)
    assert ranked("hot", {**FOUR, first: SLACK})[0] == first
    assert ranked("hot", {**FOUR, first: SLACK + 1})[0] == second
    assert ranked("hot", {**FOUR, first: SLACK + 1})[-1] == first
    busy = dict.fromkeys(FOUR, 20)
    assert ranked("hot", {**busy, first: 30 + SLACK})[0] == first
    assert ranked("hot", {**busy, first: 31 + SLACK})[0] == second


def test_one_hot_key_keeps_all_replicas_busy() -> None:
    queues = dict(FOUR)
    for _ in range(400):
        queues[ranked("hot", queues)[0]] += 1
    assert max(queues.values()) <= 1.5 * min(queues.values()) + SLACK + 1

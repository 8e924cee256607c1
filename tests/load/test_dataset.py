"""Prompts from files, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from intaglio.errors import UsageError
from intaglio.load import dataset as module
from intaglio.load.ask import Form
from intaglio.load.dataset import Dataset

PLAIN, CHAT = Form("m", False, False, {}), Form("m", True, False, {})


def file(folder: Path, name: str, *lines: Any) -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_prompt_a_line(tmp_path: Path) -> None:
    path = file(tmp_path, "a.txt", "first", "", "  ", "zweite \u2028 Zeile")
    asks = Dataset(path, limit=9).asks(PLAIN)
    assert [json.loads(ask.body)["prompt"] for ask in asks] == ["first", "zweite \u2028 Zeile"]
    assert [(ask.index, ask.part, ask.limit, ask.tokens) for ask in asks] == [
        (0, "file", 9, None),
        (1, "file", 9, None),
    ]
    again = Dataset(path, limit=9, count=5).asks(CHAT)
    assert [json.loads(ask.body)["messages"][0]["content"] for ask in again][2:] == [
        "first",
        "zweite \u2028 Zeile",
        "first",
    ]


def test_lines_of_json_say_more(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", {"prompt": "a", "max_tokens": 3}, "", {"prompt": [5, 6], "part": "ids"})
    first, second = Dataset(path, limit=9).asks(PLAIN)
    assert (first.limit, first.part, second.limit, second.part, second.tokens) == (3, "file", 9, "ids", 2)
    assert json.loads(second.body)["prompt"] == [5, 6]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    (chat,) = Dataset(file(tmp_path, "c.jsonl", {"messages": messages}), limit=9).asks(CHAT)
    assert json.loads(chat.body)["messages"] == messages


@pytest.mark.parametrize(
    ("name", "lines", "form", "said"),
    [
        ("a.csv", ["x"], PLAIN, r"expected a \.txt file"),
        ("a.txt", ["", " "], PLAIN, "no prompt in it"),
        ("a.jsonl", ['{"prompt": "a"}', "{"], PLAIN, "line 2: "),
        ("a.jsonl", [{"prompt": 5}], PLAIN, r"line 1: .*prompt"),
        ("a.jsonl", [{"text": "a"}], PLAIN, "line 1: expected either a prompt or messages"),
        ("a.jsonl", [{"prompt": "a", "messages": []}], CHAT, "line 1: expected either"),
        ("a.jsonl", [{"prompt": "a", "max_tokens": 0}], PLAIN, "line 1: max_tokens 0"),
        ("a.jsonl", [{"messages": []}], PLAIN, "messages need --endpoint /v1/chat/completions"),
        ("a.jsonl", [{"prompt": [1]}], CHAT, "prompts that are tokens need --endpoint /v1/completions"),
    ],
)
def test_what_is_wrong_with_a_file(
    tmp_path: Path, name: str, lines: list[Any], form: Form, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Dataset(file(tmp_path, name, *lines), limit=9).asks(form)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Dataset(tmp_path / "none.txt", limit=9).asks(PLAIN)
    path = tmp_path / "a.txt"
    path.write_bytes(b"ok\n\xff\n")
    with pytest.raises(UsageError, match="not UTF-8 at byte 3"):
        Dataset(path, limit=9).asks(PLAIN)
    monkeypatch.setattr(module, "MOST", 4)
    with pytest.raises(UsageError, match="more than"):
        Dataset(path, limit=9).asks(PLAIN)

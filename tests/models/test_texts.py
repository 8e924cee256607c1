"""The default text and text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.errors import IntaglioError
from intaglio.models import texts


def paragraphs(text: str) -> set[str]:
    return {p.strip() for p in text.split("\n\n") if len(p.strip()) >= texts.PARAGRAPH}


def test_calibration_and_evaluation_share_no_paragraph() -> None:
    evaluation = paragraphs(texts.evaluation_text())
    assert len(texts.evaluation_text()) > 60_000
    assert sum(map(len, texts.calibration_documents())) > 250_000
    for document in texts.calibration_documents():
        assert not paragraphs(document) & evaluation


def test_calibration_documents_do_not_repeat_each_other() -> None:
    found: set[str] = set()
    for document in texts.calibration_documents():
        assert not paragraphs(document) & found
        found |= paragraphs(document)


def test_text_and_json_lines_and_the_default_combine(tmp_path: Path) -> None:
    plain, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("ü plain")
    lines.write_text('{"text": "one", "id": 1}\n\n{"text": "two"}\n')
    assert texts.documents(plain) == ("ü plain",)
    assert texts.documents(lines) == ("one", "two")
    assert texts.documents([plain, "pydoc"]) == ("ü plain", *texts.calibration_documents())
    assert texts.fingerprint(["ab", "c"]) != texts.fingerprint(["a", "bc"])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.txt", None, "no such file"),
        ("a.csv", b"x", "expected a .txt file"),
        ("a.txt", b"ok \xff", "not UTF-8 at byte 3"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": 1}\n', "line 2"),
        ("a.jsonl", b"not json\n", "line 1"),
    ],
)
def test_unreadable_text_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntaglioError, match=expected):
        texts.documents(path)

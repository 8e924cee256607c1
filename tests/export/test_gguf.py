"""GGUF: what is written is read back as the same model, by our own reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intaglio.errors import IntaglioError, UsageError
from intaglio.export import export
from intaglio.export.gguf import write_gguf
from intaglio.models import open_checkpoint
from intaglio.models.gguf import Gguf
from intaglio.models.tokenizer import Tokenizer
from intaglio.terms import TritPlanes
from tests import tiny_llm
from tests.export.small import LAYERS, W4, coded, logits
from tests.models.tiny import LLAMA3, tiny_checkpoint


@pytest.mark.parametrize(
    "case", ["llama", "llama-tied", "llama-biased", "llama-llama3", "mistral-full", "qwen2", "qwen3"]
)
def test_a_written_model_is_read_back_exactly(case: str, tmp_path: Path) -> None:
    changes = (
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 16}} if "llama3" in case else {}
    )
    checkpoint = tiny_checkpoint(case, **changes)
    written = open_checkpoint(write_gguf(checkpoint, tmp_path / "m.gguf", "F32"))
    assert set(written.linears) == set(checkpoint.linears)
    np.testing.assert_allclose(logits(written), logits(checkpoint), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "error"), [("F16", 0.05), ("Q8_0", 0.1), ("Q4_1", 1.2), ("Q4_0", 1.2)])
def test_coarser_kinds_are_near(kind: str, error: float, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    written = open_checkpoint(write_gguf(checkpoint, tmp_path / "m.gguf", kind, "Q8_0"))
    difference = np.abs(logits(written) - logits(checkpoint)).mean()
    assert 1e-6 < difference / logits(checkpoint).std() < error
    assert {t.kind.name for t in Gguf.open(tmp_path / "m.gguf").tensors.values()} == {"F32", "Q8_0", kind}


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    directory = tiny_llm.write_model(tmp_path / "tiny")
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    swapped = "ba"  # a merge that shows: the last of the bytes makes room for it
    vocab[swapped] = vocab.pop(max(vocab, key=vocab.__getitem__))
    tokenizer["model"]["merges"] = [["b", "a"]]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    written = open_checkpoint(write_gguf(open_checkpoint(directory), tmp_path / "m.gguf"))
    assert written.spec.vocab_size == tiny_llm.VOCAB
    assert written.config["eos_token_id"] == 2
    encode = Tokenizer.from_files(written.files, written.config).encode
    assert list(encode("baab 1<eos>")) == [vocab[t] for t in ("ba", "a", "b", "Ġ", "1")] + [2]


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    write_gguf(tiny_checkpoint("llama"), tmp_path / "m.gguf")
    assert Gguf.open(tmp_path / "m.gguf").metadata["tokenizer.ggml.model"] == "no_vocab"


def test_what_gguf_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntaglioError, match="sliding window"):
        write_gguf(tiny_checkpoint("mistral"), tmp_path / "m.gguf")
    with pytest.raises(IntaglioError, match="it is a Gemma2ForCausalLM, written are LlamaForCausalLM"):
        write_gguf(tiny_checkpoint("gemma2"), tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize("case", ["llama", "llama-tied", "llama-biased", "qwen2", "qwen3"])
def test_codes_are_kept(case: str, tmp_path: Path) -> None:
    checkpoint = coded(W4, case)
    found = export(checkpoint, tmp_path / "m.gguf", "gguf")
    assert found.matrices == {"Q4_1": LAYERS}
    wanted = logits(checkpoint)
    read = logits(open_checkpoint(tmp_path / "m.gguf"))
    assert np.abs(read - wanted).mean() < 5e-3 * wanted.std()  # scales and minima as float16


def test_matrices_without_a_kind_are_refused_or_halves(tmp_path: Path) -> None:
    checkpoint = coded(TritPlanes(group_size=32))
    with pytest.raises(UsageError, match="GGUF has no codes for 14 of 14"):
        export(checkpoint, tmp_path / "m.gguf", "gguf")
    assert not (tmp_path / "m.gguf").exists()
    assert export(checkpoint, tmp_path / "m.gguf", "gguf", dense=True).matrices == {"F16": LAYERS}
    wanted = logits(checkpoint)
    read = logits(open_checkpoint(tmp_path / "m.gguf"))
    assert np.abs(read - wanted).mean() < 5e-3 * wanted.std()


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    export(coded(), tmp_path / "m.gguf", "gguf")
    with pytest.raises(UsageError, match="exists"):
        export(coded(), tmp_path / "m.gguf", "gguf")
    export(coded(), tmp_path / "m.gguf", "gguf", force=True)

"""Entrants: which engines take part, in which formats, on files made for the run from the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec

import intaglio
from intaglio.benchmark import synthetic
from intaglio.benchmark.engines import ENGINES, Job
from intaglio.errors import IntaglioError, UsageError
from intaglio.export.gguf import write_gguf
from intaglio.models import artifact, gguf_vocabulary, json_text, open_checkpoint, packaged
from intaglio.models.checkpoint import Checkpoint

FORMATS = {
    "intaglio": ("",),  # its own
    "llama_cpp": ("Q4_0", "Q4_1", "Q4_K_M"),
    "openvino": ("Q4_0", "Q4_1"),
    "transformers": ("fp32", "bf16"),
}
# engine -> (module, distribution) it needs
NEEDS = {
    "llama_cpp": (("llama_cpp", "llama-cpp-python"), ("gguf", "gguf")),
    "openvino": (("openvino_genai", "openvino-genai"), ("gguf", "gguf")),
    "transformers": (("torch", "torch"), ("transformers", "transformers")),
}
PEERS = {ENGINES[engine][1]: engine for engine in NEEDS}  # as people write them
SMALL = 2 << 30  # parameters of a synthetic model whose float16 file is written unasked


class Asked(NamedTuple):
    """What is to be measured; `peers` None: all that can."""

    model: str
    against: str | None
    peers: tuple[str, ...] | None
    native: Job  # ours, and what the others' jobs have in common with it


def named(peers: str) -> tuple[str, ...]:
    """`llama.cpp,openvino` -> engines; `none` -> none."""
    names = [name.strip() for name in peers.split(",") if name.strip()]
    if names in ([], ["none"]):
        return ()
    if unknown := [name for name in names if name not in PEERS]:
        raise UsageError(f"no engine {unknown[0]!r}; known are {', '.join(PEERS)}")
    return tuple(PEERS[name] for name in dict.fromkeys(names))


def base_of(model: str, checkpoint: Checkpoint, against: str | None) -> str:
    """What the peers run: what the model was compressed from, or the model itself."""
    if against is not None or not artifact.is_artifact(checkpoint.config) or synthetic.is_synthetic(model):
        return against or model
    report = Path(model) / artifact.REPORT
    base = json_text.read_object(report).get("model") if report.is_file() else None
    return str(base or "")


def entrants(asked: Asked, base: str, folder: Path) -> Iterator[Job | tuple[str, str]]:
    """Every peer's jobs, their files made in `folder`; or (engine, why it is skipped)."""
    for engine in tuple(NEEDS) if asked.peers is None else asked.peers:
        try:
            _require(engine)
            yield from _jobs(engine, asked, base, folder)
        except IntaglioError as error:
            yield engine, str(error)


def versions(engines: Sequence[str]) -> dict[str, str]:
    """Of ourselves, and of what took part."""
    names = {name for engine in engines for _, name in NEEDS.get(engine, ())}
    return {"intaglio": intaglio.__version__} | {name: version(name) for name in sorted({"numpy", *names})}


def _require(engine: str) -> None:
    for module, distribution in NEEDS[engine]:
        if find_spec(module) is None:
            raise IntaglioError(f"{distribution} is not installed: pip install 'intaglio[peers]'")


def _jobs(engine: str, asked: Asked, base: str, folder: Path) -> Iterator[Job]:
    if synthetic.is_synthetic(base):
        yield from _synthetic_jobs(engine, asked, base, folder)
        return
    checkpoint = _opened(base)
    for form in FORMATS[engine]:
        made = base if engine == "transformers" else str(_file(engine, form, base, checkpoint, asked, folder))
        yield msgspec.structs.replace(asked.native, engine=engine, format=form, model=made, isa=None, kv=None)


def _synthetic_jobs(engine: str, asked: Asked, base: str, folder: Path) -> Iterator[Job]:
    """llama.cpp's plainest format: the numbers are random, only their count matters."""
    checkpoint = synthetic.original(base)
    if engine != "llama_cpp":
        raise IntaglioError("a synthetic model has no tokenizer and no files that it could read")
    halves = 2 * sum(rows * cols for rows, cols in synthetic.shapes(checkpoint.spec).values())
    if asked.peers is None and halves > 2 * SMALL:
        raise IntaglioError(f"its file would take {halves / 1e9:.1f} GB: ask for it with --peers llama.cpp")
    made = _file(engine, "Q4_0", base, checkpoint, asked, folder)
    yield msgspec.structs.replace(
        asked.native, engine=engine, format="Q4_0", model=str(made), isa=None, kv=None
    )


def _opened(base: str) -> Checkpoint:
    if not base:
        raise IntaglioError("what the model was compressed from is not known: give --against")
    try:
        return open_checkpoint(base)
    except IntaglioError as error:
        raise IntaglioError(f"the model was compressed from {base}, give --against: {error}") from None


def _file(engine: str, form: str, base: str, checkpoint: Checkpoint, asked: Asked, folder: Path) -> Path:
    target = folder / f"{engine}-{form}.gguf"
    if engine == "llama_cpp":
        from intaglio.benchmark.engines.llama_cpp import quantize

        return quantize(_source(base, checkpoint, folder), target, form, asked.native.threads)
    if gguf_vocabulary.vocabulary(checkpoint) == gguf_vocabulary.NONE:
        raise IntaglioError("it opens no model without a byte-level BPE tokenizer")
    return write_gguf(checkpoint, target, form, "Q8_0")


def _source(base: str, checkpoint: Checkpoint, folder: Path) -> Path:
    """The model as GGUF: the file itself where it is one, else its weights in float16."""
    if base in packaged.PACKAGED:
        return packaged.find(base)
    if base.endswith(".gguf"):
        return Path(base)
    source = folder / "float16.gguf"
    return source if source.exists() else write_gguf(checkpoint, source)

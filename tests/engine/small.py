"""Checkpoints for the executor's tests: tiny random models, plain or rounded to few bits, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from intaglio import _native
from intaglio.attention import Affine, Half
from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.engine.pages import pages_for
from intaglio.engine.sampling import GREEDY, Sampling
from intaglio.formats import Format, Integer
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.plain import checkpoint as plain_checkpoint
from intaglio.models.reference import forward
from intaglio.terms import Coded, Dense, decode
from intaglio.types import Array
from tests.models.tiny import tiny

ISAS = tuple(_native.isas())
A8 = Integer(bits=8, symmetric=True)


class StateDict:
    """A transformers module's parameters, as models.plain reads them."""

    def __init__(self, model: torch.nn.Module, tied: bool) -> None:
        self.arrays = {
            k: v.numpy() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")
        }
        self.shapes = {name: array.shape for name, array in self.arrays.items()}
        self.nbytes = sum(array.nbytes for array in self.arrays.values())

    def read(self, name: str, rows: tuple[int, int] | None) -> Array:
        return self.arrays[name] if rows is None else self.arrays[name][slice(*rows)]

    def coded(self, name: str, rows: tuple[int, int] | None) -> None:
        """Plain numbers only."""


@lru_cache(maxsize=32)
def plain(name: str, *, gain: float = 1.0, **changes: int) -> Checkpoint:
    """The case `name` of tests/models/tiny.py in float32; `gain` multiplies its matrices."""
    model = transformers_model(name, gain=gain, **changes)
    tied = bool(model.config.tie_word_embeddings)
    config = model.config.to_dict()
    lazy = plain_checkpoint(name, config, StateDict(model, tied), files={}, identify=lambda: name)
    return Checkpoint(name, config, lazy.spec, dict(lazy.linears), dict(lazy.vectors))


def transformers_model(name: str, *, gain: float = 1.0, **changes: int) -> torch.nn.Module:
    model = tiny(name, **changes)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed_tokens" not in key:
                parameter.mul_(gain)
    return model


def coded(weights: Coded, fmt: Format, activation: Integer | None) -> Coded:
    """`weights` rounded to the nearest codes of `fmt`."""
    w = decode(weights)
    tables = fmt.fit(w)
    state = {f"0.{k}": a for k, a in fmt.pack(fmt.encode(w, tables), tables).items()}
    return Coded(weights.shape, (Dense(fmt),), state, activation=activation, bias=weights.bias)


def rounded(
    checkpoint: Checkpoint,
    fmt: Format,
    activation: Integer | None = None,
    only: Sequence[str] = tuple(roles.LINEARS),
) -> Checkpoint:
    """`checkpoint` with the linears of these roles in every layer rounded."""
    sites = [roles.site(layer, role) for layer in range(checkpoint.spec.num_layers) for role in only]
    return checkpoint.replace({s: coded(checkpoint.linears[s], fmt, activation) for s in sites})


def tokens(count: int, *, seed: int = 0, vocab: int = 131) -> Array:
    return np.random.default_rng(seed).integers(0, vocab, count).astype(np.int32)


def run_logits(
    checkpoint: Checkpoint, isa: str, kv: str = "fp16", *, starts: int = 1, step: int = 64
) -> Array:
    """Logits of 100 tokens cut into `starts` sequences, `step` tokens a call at most."""
    executor = Executor(checkpoint, isa=isa, threads=2, kv=kv, max_tokens=step, max_sequences=2)
    return np.concatenate([executor.logits(x) for x in tokens(100).reshape(starts, -1)])


def reference_logits(checkpoint: Checkpoint, kv: Half | Affine, *, starts: int = 1) -> Array:
    """The same by the torch definition."""
    x = torch.from_numpy(tokens(100).reshape(starts, -1)).long()
    return np.asarray(forward(checkpoint, x, kv=kv).flatten(0, 1).numpy())


def relative(got: Array, expected: Array) -> Array:
    """Largest difference of each token's logits, in parts of the largest logit."""
    rows: Array = np.abs(got - expected).max(axis=1) / np.abs(expected).max()
    return rows


def far(got: Array, expected: Array) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def generate(
    executor: Executor,
    prompt: Sequence[int],
    count: int,
    *,
    chunk: int = 10**6,
    params: Sampling = GREEDY,
) -> list[int]:
    """`count` tokens after `prompt`, alone, the prompt entering in pieces of `chunk`."""
    pages = executor.pool.allocate(pages_for(len(prompt) + count))
    said = list(prompt)
    try:
        for start in range(0, len(prompt), chunk):
            end = min(start + chunk, len(prompt))
            last = int(end == len(prompt))
            drawn = executor.step([Chunk(said[start:end], start, pages, last, params, said)])
        said.append(int(drawn[0]))
        while len(said) < len(prompt) + count:
            at = len(said) - 1
            said.append(int(executor.step([Chunk(said[at:], at, pages, 1, params, said)])[0]))
    finally:
        executor.pool.free(pages)
    return said[len(prompt) :]

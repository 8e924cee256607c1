"""Types of the native core; what the functions do is said in native/bind/."""

from collections.abc import Sequence
from typing import TypeAlias

from intaglio.types import Array

Part: TypeAlias = tuple[int, int, Array, Array | None, Array | None, Array | None]
Columns: TypeAlias = tuple[int, int, int]
Rounding: TypeAlias = tuple[int, int, int, int, float]  # size, bits, kept, kept_bits, clip

def isas() -> list[str]: ...
def structured(
    kind: int, rows: int, cols: int, group: int, arrays: Sequence[Array], isa: str = ""
) -> Matrix: ...
def read_bandwidth(isa: str, threads: int, nbytes: int, seconds: float) -> float: ...
def int8_peak(isa: str, threads: int, seconds: float) -> float: ...
def decode(kind: int, cols: int, part: Part) -> Array: ...
def quantize(x: Array, sum_group: int, isa: str = "") -> tuple[Array, Array, Array]: ...
def quantize_groups(x: Array, rounding: Rounding, isa: str = "") -> tuple[Array, Array, Array]: ...
def rms_norm(x: Array, weight: Array | None, eps: float, isa: str = "") -> Array: ...
def gate(g: Array, u: Array, activation: int, isa: str = "") -> Array: ...
def rope(head: Array, cos: Array, sin: Array, isa: str = "") -> Array: ...
def axpy(a: float, x: Array, y: Array, isa: str = "") -> Array: ...
def softcap(x: Array, cap: float, isa: str = "") -> Array: ...
def sample(
    logits: Array,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    presence_penalty: float,
    frequency_penalty: float,
    seed: int,
    history: Array,
    prompt: int,
    position: int,
    bias_ids: Array,
    biases: Array,
    mask: Array | None = None,
) -> int: ...
def logprobs(logits: Array, token: int, n: int) -> tuple[float, int, Array, Array]: ...
def pursue(
    gram: Array, correlations: Array, nonzeros: int, picks: int = 1, threads: int = 1, per_bin: int = 1
) -> tuple[Array, Array]: ...
def update_atoms(
    atoms: Array, residual: Array, index: Array, value: Array, steps: int, threads: int = 1
) -> tuple[Array, Array, Array]: ...
def best_pairs(x: Array, cost: Array, scales: Array, zeros: Array, highest: int, limit: float) -> Array: ...

class Matrix:
    kind: int
    rows: int
    cols: int
    group: int
    nbytes: int
    isa: str
    def __init__(
        self, kind: int, cols: int, parts: Sequence[Part], isa: str = "", threads: int = 1
    ) -> None: ...
    def linear(
        self,
        x: Array,
        bias: Array | None = None,
        alpha: float = 1.0,
        onto: Array | None = None,
        rounding: Rounding | None = None,
    ) -> Array: ...
    def accumulate(self, q: Array) -> Array: ...
    def seconds(self, x: Array, repeats: int) -> list[float]: ...
    def cuts(self, threads: int) -> list[int]: ...
    def row(self, row: int) -> Array: ...

class Pages:
    page_bytes: int
    def __init__(self, kv_heads: int, head_dim: int, bits: int, count: int, isa: str = "") -> None: ...
    def write(self, token: int, key: Array, value: Array) -> None: ...
    def read(self, token: int) -> tuple[Array, Array]: ...
    def seconds(self, q: Array, repeats: int) -> list[float]: ...
    def attend(
        self,
        q: Array,
        kv_head: int,
        position: int,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        key_begin: int = 0,
        key_end: int = -1,
        unfinished: bool = False,
    ) -> tuple[Array, Array]: ...

class Executor:
    reserved_nbytes: int
    cache_nbytes: int
    def __init__(
        self,
        *,
        isa: str,
        threads: int,
        max_tokens: int,
        max_sequences: int,
        max_draws: int,
        max_context: int,
        pages: int,
        vocab: int,
        layers: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        kv_bits: int,
        pin_threads: bool = False,
    ) -> None: ...
    def add_buffer(
        self, width: int, floats: bool, sum_group: int, local: bool, scales: bool = False
    ) -> int: ...
    def add_reading(
        self, rounding: Rounding | None, order: Array | None, few: int = 0, of: int = 0
    ) -> int: ...
    def add_vector(self, values: Array, /) -> int: ...
    def add_matrix(self, matrix: Matrix, /) -> int: ...
    def add_rope(self, inv_freq: Sequence[float], scale: float) -> int: ...
    def embed(self, matrix: int, target: Columns, reading: int, scale: float, /) -> None: ...
    def norm(
        self, source: Columns, target: Columns, reading: int, gain: int, eps: float, rows: int, /
    ) -> None: ...
    def add_norm(
        self, source: Columns, residual: Columns, gain: int, eps: float, alpha: float, rows: int, /
    ) -> None: ...
    def linear(
        self,
        matrix: int,
        source: int,
        target: Columns,
        bias: int,
        alpha: float,
        accumulate: bool,
        rows: int,
        /,
    ) -> None: ...
    def gate(
        self, gate: Columns, up: Columns, target: Columns, reading: int, activation: int, rows: int, /
    ) -> None: ...
    def append(
        self,
        layer: int,
        rope: int,
        q: Columns,
        k: Columns,
        v: Columns,
        q_gain: int,
        k_gain: int,
        eps: float,
        /,
    ) -> None: ...
    def attend(
        self, layer: int, q: Columns, target: Columns, window: int, scale: float, softcap: float, /
    ) -> None: ...
    def hidden(self, source: Columns, gain: int, eps: float, rows: int, /) -> None: ...
    def softcap(self, cap: float, /) -> None: ...
    def sample(self) -> None: ...
    def step(self, arrays: tuple[Array, ...], /) -> Array: ...
    def score(self, arrays: tuple[Array, ...], logits: Array, /) -> None: ...
    def hidden_rows(self, arrays: tuple[Array, ...], rows: Array, /) -> None: ...
    def logits(self, draw: int, /) -> Array: ...
    def logprobs(self, draw: int, n: int, /) -> tuple[float, int, Array, Array]: ...
    def read_page(self, page: int, layer: int, head: int, slot: int, is_value: bool, /) -> Array: ...

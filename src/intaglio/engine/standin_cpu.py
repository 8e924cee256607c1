"""Stand-in."""
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from intaglio.formats import Floating, Integer, TwoLevel
from intaglio.terms import Coded, Dense

KINDS = ["f32","f16","bf16","w4","w8","w8a8","w4a8","w4a8two","w4a8group"]

@dataclass(frozen=True)
class Choice:
    kind: int
    part: tuple
    declined: tuple[str, ...] = ()

def choose(coded: Coded) -> Choice:
    rows, cols = coded.shape
    (term,) = coded.terms
    state = coded.term_state(0)
    f = term.format
    if isinstance(f, Floating):
        v = np.ascontiguousarray(state["value"])
        kind = {"float32": 0, "float16": 1, "bfloat16": 2}[f.dtype]
        return Choice(kind, (0, cols, v.view(np.uint8).reshape(rows, -1), None, None, None))
    a8 = coded.activation is not None
    if isinstance(f, TwoLevel):
        return Choice(7, (f.bits, min(f.group_size, cols), state["codes"], state["scale"], state["group_zero"], state["group_scale"]))
    group = f.group_size or cols
    zero = state.get("zero")
    scale = state["scale"].astype(np.float32)
    kind = (5 if f.bits == 8 else 6) if a8 else (3 if f.bits <= 4 else 4)
    if a8 and f.group_size: kind = 8
    return Choice(kind, (f.bits, min(group, cols), state["codes"], scale, zero, None))

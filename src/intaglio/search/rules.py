"""The recipe of a choice: the commonest candidate for all linears, then the exceptions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from intaglio.models import roles
from intaglio.recipe import Calibration, Recipe, Rule
from intaglio.search.candidates import Candidate

LONGEST, LONGEST_NAME = 200, 54  # characters: of a rule's layers, of a model's name within a recipe's
Choice = Mapping[tuple[int, str], Candidate]  # (layer, point) -> what becomes of it


def recipe(model: str, choice: Choice, calibration: Calibration, summary: str) -> Recipe:
    """What `compress` takes to carry the choice out."""
    name = re.sub(r"[^a-z0-9.]+", "-", Path(model).name.lower()).strip(".-")[-LONGEST_NAME:].lstrip(".-")
    return Recipe(
        name=f"{name}-searched".lstrip("-"),
        source="measured losses and costs, chosen by integer programming (intaglio search)",
        summary=summary,
        weights=tuple(rules(choice)),
        calibration=calibration,
    )


def rules(choice: Choice) -> Iterator[Rule]:
    """Few rules that say the choice; the last that matches a matrix holds."""
    ((common, _),) = Counter(candidate.name for candidate in choice.values()).most_common(1)
    known = {candidate.name: candidate for candidate in choice.values()}
    yield known[common].rule
    layers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (layer, point), candidate in choice.items():
        if candidate.name != common:
            layers[candidate.name, point].append(layer)
    for (name, point), members in layers.items():
        for part in ranges(members):
            yield replace(known[name].rule, match=roles.INPUTS[point], layers=part)


def ranges(layers: Iterable[int]) -> Iterator[str]:
    """[0, 1, 2, 7] -> "0-2,7", in several parts where one would be too long."""
    parts: list[str] = []
    for low, high in _runs(sorted(layers)):
        part = str(low) if low == high else f"{low}-{high}"
        if parts and len(",".join([*parts, part])) > LONGEST:
            yield ",".join(parts)
            parts = []
        parts.append(part)
    yield ",".join(parts)


def _runs(layers: Sequence[int]) -> Iterator[tuple[int, int]]:
    begin = layers[0]
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if following != layer + 1:
            yield begin, layer
            begin = following if following is not None else begin

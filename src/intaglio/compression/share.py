"""Share: matrices that read one input coded as one matrix, what reads that input stored with the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from intaglio.compression.workers import Task, Workers
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.terms import Coded, Dictionary, decode

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", extra="compress")


def solve(inputs: Sequence[Sequence[Task]], crew: Workers) -> dict[str, Coded]:
    """Name -> matrix, of the tasks of each input; those of one rule that shares are solved as one."""
    groups = [group for tasks in inputs for group in _groups(tasks)]
    solved = crew.solve([_joined(group) for group in groups])
    parts = (part for group, coded in zip(groups, solved, strict=True) for part in _parts(group, coded))
    return dict(parts)


def _groups(tasks: Sequence[Task]) -> list[list[Task]]:
    groups: list[list[Task]] = []
    for task in tasks:
        mates = (group for group in groups if task.rule.share and group[0].rule == task.rule)
        if (group := next(mates, None)) is None:
            groups.append([task])
        else:
            group.append(task)
    return groups


def _joined(group: Sequence[Task]) -> Task:
    """One below the other; a dictionary is of the size that all of them together have."""
    first = group[0]
    if len(group) == 1:
        return first
    w, (term,) = torch.cat([task.w for task in group]), first.rule.terms
    assert isinstance(term, Dictionary)
    rule = structs.replace(first.rule, share=False, terms=(structs.replace(term, rows=len(w)),))
    return Task(rule, w, None, first.metric, " + ".join(task.name for task in group))


def _parts(group: Sequence[Task], coded: Coded) -> Iterator[tuple[str, Coded]]:
    """The matrices again: of all factors but the first each has its own rows."""
    if len(group) == 1:
        yield group[0].name, coded
        return
    lent, begin = {f"0.{array}" for array in coded.terms[0].reader(coded.shape)}, 0
    for task in group:
        rows = slice(begin, begin + len(task.w))
        part = replace(
            coded,
            shape=(len(task.w), coded.shape[1]),
            state={key: array if key in lent else array[rows] for key, array in coded.state.items()},
            bias=None if task.bias is None else to_numpy(task.bias.float()),
            shared=group[0].name if begin else None,
        )
        error = task.metric.relative(task.w.float(), task.w.float() - decode(part))
        yield task.name, replace(part, notes={**coded.notes, "error": error})
        begin = rows.stop

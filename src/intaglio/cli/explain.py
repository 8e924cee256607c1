"""`intaglio explain`: which kernel runs each matrix, and why better ones declined."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli import options

if TYPE_CHECKING:
    from intaglio.engine.matrices import Line


def command(
    model: options.Model,
    all_: Annotated[bool, typer.Option("--all", help="Every matrix on its own line.")] = False,
    kv: options.KV = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    from intaglio.cli import console
    from intaglio.engine.executor import Executor
    from intaglio.models import open_checkpoint

    checkpoint = open_checkpoint(model)
    executor = Executor(checkpoint, threads=threads, kv=kv, max_sequences=1)
    if json:
        console.print_json(
            {
                "model": checkpoint.name,
                "isa": executor.isa,
                "threads": executor.threads,
                "kv_bits": executor.kv_bits,
                "plan": executor.plan,
            }
        )
        return
    rows = [_row(line.sites, line) for line in executor.plan] if all_ else grouped(executor.plan)
    console.table(["sites", "kernel", "memory", "why no other"], rows, right=(2,))
    console.note(
        f"{checkpoint.name} on {executor.isa}, {executor.threads} threads,"
        f" keys and values in {executor.kv_bits} bits"
    )


def grouped(plan: Iterable[Line]) -> list[list[str]]:
    """Lines that differ in the layer only, as one."""
    from intaglio.cli.console import size

    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in plan:
        groups.setdefault((_names(line), _kernel(line), line.declined), []).append(line)
    rows = []
    for (names, kernel, declined), lines in groups.items():
        layers = [layer for layer in map(_layer, lines) if layer is not None]
        where = f"layers {ranges(layers)}: {names}" if layers else names
        memory = sum(line.nbytes for line in lines)
        rows.append([where, kernel, size(memory), _reasons(declined)])
    return rows


def ranges(layers: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> 0-2,5"""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _row(sites: Iterable[str], line: Line) -> list[str]:
    from intaglio.cli.console import size

    return [" + ".join(sites), _kernel(line), size(line.nbytes), _reasons(line.declined)]


def _kernel(line: Line) -> str:
    """Its name, and what it reads where that is neither of the two usual things."""
    return line.kernel if line.reads in ("int8", "float") else f"{line.kernel} ({line.reads})"


def _reasons(declined: Iterable[tuple[str, str]]) -> str:
    """Kernels that decline for the same reason together."""
    kernels: dict[str, list[str]] = {}
    for kernel, reason in declined:
        kernels.setdefault(reason, []).append(kernel)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in kernels.items())


def _names(line: Line) -> str:
    """Names inside the layer: `self_attn.q_proj + self_attn.k_proj`."""
    return " + ".join(re.sub(r"^model\.layers\.\d+\.", "", site) for site in line.sites)


def _layer(line: Line) -> int | None:
    match = re.match(r"model\.layers\.(\d+)\.", line.sites[0])
    return int(match[1]) if match else None

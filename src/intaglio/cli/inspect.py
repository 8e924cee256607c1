"""`intaglio inspect`: what a model is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli import options

if TYPE_CHECKING:
    from intaglio.cli.anatomy import Anatomy


def command(
    model: options.Model,
    worst: Annotated[int, typer.Option(min=0, help="So many matrices with the largest errors.")] = 10,
    json: options.Json = False,
) -> None:
    from intaglio.cli import console
    from intaglio.cli.anatomy import dissect
    from intaglio.models import open_checkpoint

    found = dissect(open_checkpoint(model))
    if json:
        console.print_json(found)
    else:
        _show(found, worst)


def _show(found: Anatomy, worst: int) -> None:
    from intaglio.cli.console import number, pairs, size, table

    head = {
        "model": found.model,
        "kind": found.kind,
        "architecture": f"{found.architecture}, {found.layers} layers, hidden {found.hidden_size}",
        "parameters": f"{found.parameters:,}",
        "stored": f"{size(found.bytes)}, {number(found.bits_per_weight)} bits per weight",
        "as opened": size(found.opened_bytes) if found.opened_bytes != found.bytes else None,
        "cache": found.cache,
        "recipe": found.recipe,
        "checksums": found.checksums,
    }
    pairs(head)
    rows = [
        [
            group.role,
            str(group.count),
            " x ".join(map(str, group.shape)),
            group.weights,
            number(group.bits_per_weight),
            size(group.bytes),
            f"{group.bytes / found.opened_bytes:.1%}",
        ]
        for group in found.groups
    ]
    headers = ["matrices", "count", "out x in", "weights x activations", "bits/weight", "stored", "share"]
    table(headers, rows, right=(1, 4, 5, 6))
    errors = sorted(
        (one for one in found.linears if one.error is not None), key=lambda one: -(one.error or 0)
    )
    if errors[:worst]:
        table(
            ["largest errors", "share of the output's power"],
            [[e.name, number(e.error)] for e in errors[:worst]],
            right=(1,),
        )

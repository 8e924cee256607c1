"""`intaglio recipes`: the recipes that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from intaglio.cli.options import Json


def command(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Show this recipe as YAML.")] = None,
    json: Json = False,
) -> None:
    from intaglio.cli import console
    from intaglio.recipe import dump_recipe, load_recipe, shipped

    if name is None:
        found = shipped()
        if json:
            console.print_json(
                {"recipes": [{"name": r.name, "summary": r.summary, "source": r.source} for r in found]}
            )
        else:
            console.table(["recipe", "what it is", "source"], [[r.name, r.summary, r.source] for r in found])
        return
    recipe = load_recipe(name)
    if json:
        console.print_json(recipe)
    else:
        typer.echo(dump_recipe(recipe), nl=False)

"""Recipes from YAML: a small, safe subset, with overrides, checked before any work."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from intaglio.errors import UsageError
from intaglio.recipe.schema import Limits, Recipe

MAX_BYTES = 1 << 18


def load_recipe(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """A shipped recipe by its name, or a YAML file, with `path=value` overrides applied in order.

    A list's element is addressed by its `type` or its index: `transforms.rotate.enabled=false`,
    `weights.0.terms.0.format.group_size=32`.
    """
    text, label = _source(str(name_or_path))
    data = _parse(text, f"recipe {label}")
    for override in overrides:
        _override(data, override)
    try:
        return msgspec.convert(data, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"recipe {label}: {error}") from None


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, defaults included; `load_recipe` reads back an equal one."""
    return str(yaml.safe_dump(msgspec.to_builtins(recipe), sort_keys=False, allow_unicode=True, width=110))


def dump_coding(recipe: Recipe) -> str:
    """The same of what decides the stored codes: what a recipe claims and is held to changes none of them."""
    return dump_recipe(msgspec.structs.replace(recipe, source="", summary="", limits=Limits(), claims=()))


def shipped_names() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    files = resources.files("intaglio.recipes").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def shipped() -> tuple[Recipe, ...]:
    """Every recipe that comes with the package."""
    return tuple(load_recipe(name) for name in shipped_names())


def _source(name: str) -> tuple[str, str]:
    if name in shipped_names():
        return resources.files("intaglio.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8"), name
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(name, shipped_names(), n=1)
        hint = (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(shipped_names())}, or a .yaml file"
        )
        raise UsageError(f"no recipe is called {name!r}: {hint}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"recipe {path}: larger than {MAX_BYTES} bytes, which no recipe is")
        return path.read_text(encoding="utf-8"), str(path)
    except OSError as error:
        raise UsageError(f"recipe {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"recipe {path}: not UTF-8 at byte {error.start}") from None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML's plain data: no aliases (their expansion is unbounded), no key twice, 1e-2 is a float."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(None, None, "aliases are not supported", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            plain = key.tag == "tag:yaml.org,2002:str"
            if not plain or key.value in seen:
                problem = f"{key.value!r} is given twice" if plain else "a key must be a plain name"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{what}{place}: {getattr(error, 'problem', None) or 'not YAML'}") from None
    except RecursionError:
        raise UsageError(f"{what}: nested too deeply") from None


def _override(data: Any, override: str) -> None:
    """Set one field of the plain data in place."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"override {override!r}: expected path=value, as in calibration.samples=64")
    value = _parse(text, f"override {override!r}")
    for depth, key in enumerate(keys[:-1]):
        place = _place(data, key, override, keys[:depth])
        if isinstance(data, dict):
            data.setdefault(place, {})  # a section left to its defaults
        data = data[place]
    data[_place(data, keys[-1], override, keys[:-1])] = value


def _place(data: Any, key: str, override: str, above: list[str]) -> Any:
    """The key or index that `key` means in `data`."""
    if isinstance(data, dict):
        return key
    if not isinstance(data, list):
        raise UsageError(f"override {override!r}: {'.'.join(above) or 'the recipe'} has no parts")
    tags = [element.get("type") if isinstance(element, dict) else None for element in data]
    if tags.count(key) == 1:
        return tags.index(key)
    if key.isdecimal() and int(key) < len(data):
        return int(key)
    known = ", ".join(tag or str(index) for index, tag in enumerate(tags)) or "nothing"
    raise UsageError(
        f"override {override!r}: {key!r} names no single part of {'.'.join(above)}: there is {known}"
    )

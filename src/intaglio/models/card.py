"""The model card: README.md with the front matter the hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import yaml
else:
    yaml = lazy("yaml", extra=None)  # running a model reads no card

INHERITED = ("license", "license_name", "license_link", "language", "base_model")


def render(title: str, config: Mapping[str, Any], report: object, recipe_text: str, source: bytes) -> str:
    """The card of an artifact made from a model whose own card is `source`."""
    made = report if isinstance(report, dict) else {}
    front = _front(source, made.get("model"), config)
    parts = [f"---\n{yaml.safe_dump(front, sort_keys=True)}---", f"# {title}", _made(made, config)]
    parts += ["## Run it", f'```\nintaglio generate {title} "Gravity is"\n```']
    parts += [part for part in (_measured(made.get("verification")),) if part]
    parts += ["## Recipe", f"```yaml\n{recipe_text.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def of_gguf(metadata: Mapping[str, Any], model: str | None) -> bytes:
    """The card of a model that a GGUF file holds: what the file says of its origin, or its own id `model`."""
    keys = {"license": "general.license", "base_model": "general.base_model.0.repo_url"}
    stated = {name: metadata[key] for name, key in keys.items() if isinstance(metadata.get(key), str)}
    front = {name: text.removeprefix("https://huggingface.co/") for name, text in stated.items()}
    front |= {"base_model": model} if model else {}
    return f"---\n{yaml.safe_dump(front)}---\n# {metadata.get('general.name', 'model')}\n".encode()


def recipe_name(recipe_text: str) -> str:
    """The name a recipe gives itself."""
    recipe = yaml.safe_load(recipe_text)
    return str(recipe.get("name", "unnamed")) if isinstance(recipe, dict) else "unnamed"


def front_matter(card: bytes) -> dict[str, Any]:
    """What stands between the first two `---` lines of a card."""
    found = re.match(r"---\r?\n(.{0,65536}?)\r?\n---", card.decode("utf-8", errors="replace"), re.DOTALL)
    try:
        value = yaml.safe_load(found[1]) if found else {}
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _front(source: bytes, model: object, config: Mapping[str, Any]) -> dict[str, Any]:
    original = front_matter(source)
    front = {name: original[name] for name in INHERITED if name in original}
    if isinstance(model, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        front["base_model"] = model  # an id at the hub: nearer than what that model itself was made from
    tags = ["intaglio", str(config["quantization_config"]["recipe"]), "compressed"]
    return front | {"base_model_relation": "quantized", "library_name": "intaglio", "tags": tags}


def _made(report: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    recipe = config["quantization_config"]["recipe"]
    lines = [f"`{report.get('model', 'A model')}` compressed by Intaglio with the recipe `{recipe}`."]
    if isinstance(bits := report.get("bits_per_weight"), float):
        lines.append(f"{bits:.2f} bits per weight, every stored byte counted.")
    if isinstance(calibration := report.get("calibration"), dict):
        fields = ("text", "windows", "seq_len", "seed")
        seen = ", ".join(f"{name} {calibration[name]}" for name in fields if name in calibration)
        lines.append(f"Calibrated on: {seen}.")
    return "\n".join(lines)


def _measured(verification: object) -> str:
    """Every number the run measured against the original."""
    if not isinstance(verification, dict):
        return ""
    rows = [
        f"| {name} | {value:.5g} |" for name, value in verification.items() if isinstance(value, (int, float))
    ]
    return "\n".join(["## Measured beside the original", "", "| | |", "|---|---|", *rows])

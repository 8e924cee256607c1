"""The page of a search: everything in it, readable in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from intaglio.models import roles
from intaglio.recipe import Calibration
from intaglio.search import Found, Point
from intaglio.search.candidates import named
from intaglio.search.page import page
from intaglio.search.rules import recipe
from tests.pages.browser import look, needs_browser

NAMES = ("int2", "int3", "int4", "int8")


def point(name: str, bits: float, loss: float, **counts: int) -> Point:
    nbytes = int(bits * 1e6 / 8)
    return Point(
        name=name, nbytes=nbytes, bits_per_weight=bits, loss=loss, tokens_per_s=1000 / bits, counts=counts
    )


def found(model: str = "tiny") -> Found:
    candidates = named(NAMES)
    groups = {
        (layer, where): candidates[(layer + i) % 4]
        for layer in range(6)
        for i, where in enumerate(roles.INPUTS)
    }
    return Found(
        model=model,
        command=f"intaglio search {model} --max-bits 5",
        limits={"--max-bits": 5.0},
        chosen=point("chosen", 5.0, 0.02, int3=10, int4=14),
        recipe=recipe(model, groups, Calibration(), "5.00 bits per weight"),
        uniform=tuple(
            point(name, bits, 10.0 ** (1 - bits), **{name: 24})
            for name, bits in zip(NAMES, (2.5, 3.5, 4.5, 8.5), strict=True)
        ),
        curve=tuple(
            point("", 2.5 + i / 4, 10.0 ** (1 - 2.5 - i / 4) / 2, int2=24 - i, int8=i) for i in range(25)
        ),
        choice={
            str(layer): {where: groups[layer, where].name for where in roles.INPUTS} for layer in range(6)
        },
    )


def test_the_page_says_which_candidates_are_less_than_their_recipe() -> None:
    assert "first rule" not in page(found())
    less = msgspec.structs.replace(found(), left_out={"<a>": ("transforms", "tune")})
    assert "<p>&lt;a&gt;: only its first rule is a candidate, without its transforms, tune.</p>" in page(less)


def test_the_page_has_the_curve_the_choice_and_the_recipe_escaped() -> None:
    text = page(found("<script>"))
    drawn = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    labels = [g.get("aria-label", "") for g in drawn.iter("g") if "choice" in g.get("class", "")]
    assert sum(label.startswith(NAMES) for label in labels) == 4
    assert sum("chosen" in label for label in labels) == 1
    assert len(labels) == 25 + 4 + 1
    assert len([r for r in drawn.iter("rect") if r.get("class") == "cell"]) == 6 * 4
    assert "<script" not in text
    assert "type: dense" in text
    assert not re.search(r"https?:|//|src=|href=|@import|url\(", text)


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_can_be_read(dark: bool, tmp_path: Path) -> None:
    seen = look(page(found()), tmp_path, dark=dark)
    assert seen["dark"] == dark
    assert seen["contrast"] >= 4.5
    assert seen["outside"] == []
    assert seen["covered"] == []
    assert seen["width"] <= 0

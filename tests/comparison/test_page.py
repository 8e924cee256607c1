"""The table and the page of a comparison; what a browser makes of it is in test_browser.py."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec

from intaglio.comparison.page import page, summary
from intaglio.comparison.plots import VIEWS
from intaglio.comparison.table import broken, table
from tests.comparison.small import NUMBERS, comparison


def whole(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def test_the_table_names_plain_rounding_that_beats_a_recipe() -> None:
    rows = {row[0]: row for row in table(comparison()).rows}
    assert rows["awq-w4"][-1] == "dominated by gptq-w4, rtn-w4"
    assert rows["gptq-w4"][-1] == "least perplexity in the budget"
    assert rows["qserve"][-1] == "over budget; dominated by gptq-w4"
    assert rows["gptq-w3"][-1] == "on the frontier"
    assert rows["broken"][-1] == "failed: its logits are <NaN>"
    assert rows["original"][1] == "16.00"
    assert rows["awq-w4"][-2] == "1 fail"
    assert broken(comparison()) == ["awq-w4: not borne out: perplexity below that of rtn-w3"]


def test_the_summary_names_the_best_within_the_budget() -> None:
    assert summary(comparison()).startswith("Least perplexity within 5.26 bits per weight: gptq-w4, 22.45")


def test_every_recipe_is_a_point_of_every_plot_that_says_its_numbers() -> None:
    figures = list(whole(page(comparison())).iter("figure"))
    assert len(figures) == len(VIEWS)
    for figure in figures:
        points = [g for g in figure.iter("g") if "choice" in g.get("class", "")]
        named = {g.get("aria-label", "").partition(":")[0] for g in points}
        assert set(NUMBERS) <= named
        assert all(g.get("tabindex") == "0" for g in points)
    said = [g.get("aria-label") for g in figures[0].iter("g") if "choice" in g.get("class", "")]
    assert "gptq-w4: 5.25 bits, perplexity 22.45" in said


def test_the_frontier_is_drawn_through_the_unbeaten() -> None:
    figure = next(whole(page(comparison())).iter("figure"))
    points = {
        g.get("aria-label", "").partition(":")[0]: g
        for g in figure.iter("g")
        if "choice" in g.get("class", "")
    }
    front = {name for name, g in points.items() if "frontier" in g.get("class", "")}
    assert front == {"gptq-w3", "gptq-w4"}  # plain rounding has as many bits, but for 0.02 %
    corners = next(figure.iter("polyline")).get("points", "")
    for name in front:
        circle = next(points[name].iter("circle"))
        assert f"{circle.get('cx')},{circle.get('cy')}" in corners
    assert "out" in points["qserve"].get("class", "")


def test_the_heat_map_has_a_cell_for_every_matrix_and_larger_errors_are_hotter() -> None:
    cells = [r for r in whole(page(comparison())).iter("rect") if r.get("class") == "cell"]
    assert len(cells) == len(NUMBERS) * 30 * 7
    heat = {c.findtext("title"): c.get("style") for c in cells}
    assert heat["down, layer 0: 1.000%"] == "--heat: 0%"
    assert heat["down, layer 29: 30.000%"] == "--heat: 100%"


def test_the_page_is_whole_and_escaped_and_needs_nothing_else() -> None:
    text = page(comparison('<script>alert("x")</script>'))
    whole(text)
    assert "<script" not in text
    assert "what rtn-w4 &lt;does&gt;" in text
    assert "its logits are &lt;NaN&gt;" in text
    assert "intaglio compress m --recipe gptq-w3 --output kept/gptq-w3\nintaglio eval kept/gptq-w3" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?:|//|src=|href=|@import|url\(", text)


def test_a_comparison_of_failures_is_still_a_page() -> None:
    found = comparison()
    rows = tuple(msgspec.structs.replace(row, result=None, failure="no", sites=()) for row in found.rows)
    found = msgspec.structs.replace(found, rows=rows, best=None)
    assert "No recipe stays within 5.26" in page(found)
    whole(page(found))

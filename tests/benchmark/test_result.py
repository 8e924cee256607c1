"""The result as JSON, as a table, and as a page with its plot."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import msgspec
import pytest

from intaglio.benchmark.page import page
from intaglio.benchmark.plot import svg
from intaglio.benchmark.result import best, spread
from intaglio.benchmark.table import tables
from tests.benchmark.small import CELLS, result


def test_the_record_has_the_headlines_in_the_best_format() -> None:
    record = json.loads(msgspec.json.encode(result().record()))
    assert record["decode"] == {"intaglio": 400, "llama_cpp": 200}
    assert record["prefill"] == {"intaglio": 2000, "llama_cpp": 950}
    assert record["batch32"] == {"intaglio": 1500}
    assert record["limits"]["read_gb_s"] == 60
    assert record["limits"]["dram_gb_s"] == 20
    assert record["limits"]["int8_gmac_s_median"] == 380
    assert {"cells", "machine", "versions", "model", "starts", "skipped", "notes", "command"} <= set(record)
    assert {"cpu", "cores", "isa", "memory"} <= set(record["machine"])
    assert record["model"]["bytes"] == 88_000_000
    assert record["model"]["shapes"]["hidden"] == 64


def test_the_best_of_every_engine_and_workload() -> None:
    assert [(c.workload, c.engine, c.format) for c in best(CELLS)][:2] == [
        ("prefill 512", "intaglio", "int4"),
        ("prefill 512", "llama_cpp", "Q4_1"),
    ]


def test_spread_is_of_the_quartiles() -> None:
    assert spread([3.0]) == 0
    assert spread([10, 10, 10]) == 0
    assert spread([8, 9, 10, 11, 12]) == pytest.approx(0.2)


def test_the_table_compares_with_ours() -> None:
    speed, starts = tables(result())
    assert speed.headers == ["", "intaglio", "llama.cpp"]
    assert speed.rows[1] == ["decode at 64", "400 ±1%", "200 ±1% Q4_0 (2.00x)"]
    assert speed.rows[2][2] == "–"
    assert starts.rows == [["intaglio", "0.100", "0.300", "0.280", "123"]]


def test_every_cell_is_a_point_under_the_roofs() -> None:
    drawing = ElementTree.fromstring(svg(result()))
    points = [path for path in drawing.iter("path") if path.get("class", "").startswith("point")]
    titles = [point.findtext("title") or "" for point in points]
    assert len(points) == len(CELLS)
    for found, title in zip(CELLS, titles, strict=True):
        assert found.workload in title
        assert found.format in title
    assert len(list(drawing.iter("polyline"))) == 2


def test_faster_is_higher_and_denser_is_further_right() -> None:
    drawing = ElementTree.fromstring(svg(result()))
    places = []
    for path in drawing.iter("path"):
        if path.get("class", "").startswith("point"):
            found = re.match(r"M([\d.]+) ([\d.]+)", path.get("d") or "")
            assert found
            places.append((float(found[1]), float(found[2])))
    ours, theirs, _, decode, *_ = places
    assert theirs[1] > ours[1]  # SVG counts downwards
    assert decode[0] < theirs[0] < ours[0]


def test_the_page_is_whole_and_says_everything_escaped() -> None:
    text = page(result('<script>alert("x")</script>'))
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert "<script" not in text
    assert "a &lt;processor&gt; &amp; more" in text
    assert "intaglio bench &lt;script&gt;" in text
    assert "openvino-genai is not installed" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?:|//|src=|href=|@import|url\(", text)

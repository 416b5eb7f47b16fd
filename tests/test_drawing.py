"""Every kind of chart is drawn from its description, and names of users stay text."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from agnews_exp.core.errors import StorageError
from agnews_exp.drawing import (
    Chart,
    Series,
    box_series,
    draw_folder,
    matrix_chart,
    page_script,
    read_chart,
    save,
    svg,
    theme,
    vega,
)

HOSTILE = ("$x^$ & <b>bold</b>", "say \"hi\" \\ datum['x']", "{expr: 1} <script>alert(1)</script>", "日本語 Ünïcode")
VALUES = (0.8, 0.85, 0.9, 0.7)
LOW, HIGH = (0.78, 0.83, 0.88, 0.6), (0.82, None, 0.93, 0.8)


def rows(kind, **more):
    published = Series("published", VALUES, HOSTILE, published=True)
    return Chart("c", "T", kind, "F1", "", (Series(HOSTILE[0], VALUES, HOSTILE, LOW, HIGH), published), **more)


CHARTS = {
    "dots": rows("dots", references=(("x", 0.75, HOSTILE[2]),), intervals="95 % Wilson interval."),
    "dots in panels": Chart(
        "c", "T", "dots", "x", "", tuple(Series("r", VALUES, HOSTILE, LOW, HIGH, panel=p) for p in HOSTILE), columns=1
    ),
    "bars": rows("bars"),
    "bars in panels": Chart("c", "T", "bars", "x", "", tuple(Series(h, VALUES, HOSTILE, panel=h) for h in HOSTILE)),
    "columns of names": Chart("c", "T", "columns", "", "y", (Series(HOSTILE[1], HOSTILE, VALUES, LOW, HIGH),)),
    "histogram": Chart("c", "T", "columns", "x", "rows", (Series("a", (0.1, 0.2, 0.3), (1, 0, 900)),), log_y=True),
    "lines": Chart(
        "c", "T", "lines", "x", "y",
        (Series(HOSTILE[2], (1, 2, 3, 4), VALUES, LOW, HIGH),
         Series("b", (1, 2, 3, 4), (None, 0.5, math.nan, 1), dashed=True)),
        references=(("y", 0.75, HOSTILE[0]),), log_x=True,
    ),
    "points": Chart("c", "T", "points", "x", "y", (Series("a", (0, 0.5), (0.1, 0.4)),), diagonal=True,
                    annotations=((0.2, 0.3, HOSTILE[2]),)),
    "box": Chart("c", "T", "box", "x", "", (box_series(HOSTILE[0], np.arange(50)), Series("few", (1.0, 2.0, 9.0)))),
    "heatmap": matrix_chart("c", "T", np.eye(4) * 7, HOSTILE),
    "heatmap of equal names": Chart("c", "T", "heatmap", "", "", z=((0.1, math.nan),), labels=(("a", "a"), ("r",))),
    "nothing": Chart("c", "T", "dots", "x", "", ()),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_in_both_themes_and_says_names_as_they_are(name, tmp_path):
    chart = CHARTS[name]
    save(chart, tmp_path / "c.png")
    save(chart, tmp_path / "c.json")
    stored = (tmp_path / "c.json").read_text(encoding="utf-8").replace("\\\\", "\\").replace('\\"', '"')
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    texts = "\n".join(ET.fromstring(svg(chart, dark=True)).itertext())
    assert "undefined" not in texts
    for hostile in HOSTILE:
        if hostile in stored:
            assert hostile in texts or chart.kind == "columns"  # a slanted name may be cut
    assert vega(chart, dark=True) | {"config": theme()} == vega(chart)


def test_a_chart_survives_being_stored(tmp_path):
    for chart in CHARTS.values():
        save(chart, tmp_path / "c.json")
        assert vega(read_chart(tmp_path / "c.json")) == vega(chart)
        json.loads((tmp_path / "c.json").read_text(), parse_constant=pytest.fail)


def test_shades_of_a_confusion_matrix_are_shares_of_the_true_class():
    matrix = np.array([[90, 10], [0, 1000]])
    once, scaled = matrix_chart("m", "T", matrix, ("a", "b")), matrix_chart("m", "T", matrix * [[10], [1]], ("a", "b"))
    assert once.z == scaled.z == ((0.9, 0.1), (0.0, 1.0))
    assert (once.texts[0][0], scaled.texts[0][0]) == ("90 (90.0%)", "900 (90.0%)")


def test_an_interval_is_drawn_from_its_low_to_its_high_end():
    spec = vega(CHARTS["dots"])
    first = spec["data"]["values"][0]
    assert (first["low"], first["x"], first["high"]) == (0.78, 0.8, 0.82)
    assert spec["data"]["values"][1].get("low") is None, "an interval with one end is none"
    domain = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain[0] <= 0.6
    assert domain[1] >= 0.93


def test_the_charts_below_a_folder_are_drawn_beside_their_data(tmp_path):
    (tmp_path / "deep").mkdir()
    save(CHARTS["bars"], tmp_path / "deep" / "c.json")
    (tmp_path / "findings.json").write_text('{"analysis": "x"}')
    assert draw_folder(tmp_path, ending=".svg") == [tmp_path / "deep" / "c.svg"]


def test_what_is_no_chart_is_refused(tmp_path):
    (tmp_path / "c.json").write_text('{"chart": 1, "nme": "x"}')
    for name in ("c.json", "missing.json"):
        with pytest.raises(StorageError, match="cannot be read as a chart"):
            read_chart(tmp_path / name)


@pytest.mark.slow
def test_a_page_has_one_script_that_draws_without_evaluating_text():
    script = page_script()
    assert "agnewsDraw" in script
    assert len(script) < 1_200_000

"""Text of users in figures: it stands as it is, whatever matplotlib would read in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from agnews_exp.analyses.figures import new_figure, save_png, take_text_literally

BROKEN = "$\\frac{1}{$"
"""Half a formula: matplotlib refuses it."""


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_names_that_look_like_formulas_are_drawn_as_text(tmp_path: Path) -> None:
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    axes.barh([BROKEN, "$x$"], [1, 2], label=BROKEN)  # names along an axis are written at the last moment
    axes.set(title=BROKEN, xlabel="$x$")
    axes.annotate(BROKEN, (1, 0))
    axes.legend()
    figure.suptitle(BROKEN)
    save_png(figure, tmp_path / "figure.png")
    assert pixels(tmp_path / "figure.png").std() > 0


def test_powers_of_ten_on_a_logarithmic_axis_stay_formulas() -> None:
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    axes.plot([1, 10, 100_000], [1, 2, 3])
    axes.set_xscale("log")
    take_text_literally(figure)
    figure.canvas.draw()
    labels = [label for label in axes.get_xticklabels() if "10^" in label.get_text()]
    assert labels
    assert all(label.get_parse_math() for label in labels)

"""The confusion figure: one picture a run, whose unchanging half is drawn once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from agnews_exp.tracking.record_files import _confusion_panels, write_confusion_figure

NAMES = ("World", "Sports", "Business", "Sci/Tech")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_a_second_figure_shows_nothing_of_the_first(tmp_path: Path) -> None:
    diagonal, spread = np.diag([50, 50, 50, 50]), np.full((4, 4), 12) + np.diag([2, 2, 2, 2])
    _confusion_panels.cache_clear()
    write_confusion_figure(tmp_path / "alone.png", {"val": spread}, NAMES)
    _confusion_panels.cache_clear()
    write_confusion_figure(tmp_path / "first.png", {"val": diagonal}, NAMES)
    write_confusion_figure(tmp_path / "second.png", {"val": spread}, NAMES)
    assert np.array_equal(pixels(tmp_path / "second.png"), pixels(tmp_path / "alone.png"))
    assert not np.array_equal(pixels(tmp_path / "first.png"), pixels(tmp_path / "alone.png"))


def test_shades_are_shares_of_the_true_class(tmp_path: Path) -> None:
    matrix = np.array([[90, 10], [0, 1000]])
    write_confusion_figure(tmp_path / "a.png", {"test": matrix}, ("a", "b"))
    write_confusion_figure(tmp_path / "b.png", {"test": matrix * [[10], [1]]}, ("a", "b"))
    found, scaled = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    blue = np.unique(found.reshape(-1, 3), axis=0)
    assert len(blue) > 4
    assert found.shape[0] > 200
    # Ten times the rows of a class change its numbers and the title, not its shade.
    corner = (found.shape[0] // 4, found.shape[1] // 2 - 60)
    assert np.array_equal(found[corner], scaled[corner])


def test_many_classes_are_drawn_without_numbers(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(25))
    write_confusion_figure(tmp_path / "many.png", {"val": np.eye(25, dtype=np.int64)}, names)
    assert pixels(tmp_path / "many.png").shape[1] > 1500

"""Figures without global state or display, in which the text of users is never read as a formula."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agnews_exp.core.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def open_frame(axes: Axes) -> None:
    """Leave only the frame's left and lower side."""
    axes.spines[["top", "right"]].set_visible(False)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure, every text as it stands."""
    take_text_literally(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def take_text_literally(figure: Figure) -> None:
    """Let names such as ``$x$`` stand as they are; matplotlib would read them as formulas and fail on bad ones.

    Numbers that matplotlib writes along an axis are left alone: powers of ten on a logarithmic one are formulas.

    Args:
        figure: Finished, but not drawn yet.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    numbers: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            major = axis.get_majorticklabels()  # makes the labels of names that have not been drawn yet
            if isinstance(axis.get_major_formatter(), LogFormatter | ScalarFormatter):
                numbers.update(major)
            numbers.update(axis.get_minorticklabels())
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in numbers:
            text.set_parse_math(False)

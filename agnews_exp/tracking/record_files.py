"""The files of a run record that people and later commands read: predictions, report, figures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import cos, radians, sin
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import spreadsheet_cell
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import classification_report_table, column_key
from agnews_exp.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg


def write_predictions(
    path: Path,
    parts: Mapping[str, TextRows],
    answers: Mapping[str, Predictions],
    class_names: tuple[str, ...],
    folds: NDArray[np.int64] | None = None,
) -> None:
    """Write one row a text: split, row_id, label, prediction, then score: and probability: columns by class.

    Rows of the part ``cv`` are out-of-fold answers for training rows and have their fold in the column ``fold``.
    Texts are left out: a record can be shared where the corpus may not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for split, rows in parts.items():
        answer = answers[split]
        columns: dict[str, object] = {
            "split": pa.array([split] * len(rows)).dictionary_encode(),
            "row_id": rows.row_ids,
            "label": rows.labels,
            "prediction": answer.labels,
        }
        if split == "cv" and folds is not None:
            columns["fold"] = folds
        for kind, values in (("score", answer.scores), ("probability", answer.probabilities)):
            if values is not None:
                columns |= {f"{kind}:{column_key(c, class_names)}": values[:, i] for i, c in enumerate(class_names)}
        tables.append(pa.table(columns))
    with atomic_path(path) as temporary:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), temporary)


def write_report(path: Path, rows: TextRows, answer: Predictions, class_names: tuple[str, ...]) -> None:
    """Write the test set's classification report as CSV: class, precision, recall, f1, support."""
    import csv

    table = classification_report_table(rows.labels, answer, class_names)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows({k: spreadsheet_cell(v) for k, v in row.items()} for row in table)


def write_confusion_figure(path: Path, matrices: Mapping[str, NDArray[np.int64]], class_names: tuple[str, ...]) -> None:
    """Draw confusion matrices side by side, one a split: counts as text, row shares as shade; rows are true classes.

    Args:
        path: PNG to write.
        matrices: Split -> shape (K, K), true classes by predicted ones.
        class_names: K names.
    """
    from PIL import Image

    titles = tuple(f"{split}: {int(matrix.sum()):,} rows" for split, matrix in matrices.items())
    canvas, panels, empty = _confusion_panels(titles, class_names)
    canvas.restore_region(empty)  # type: ignore[no-untyped-call]
    edges = np.arange(len(class_names) + 1) - 0.5
    for axes, matrix in zip(panels, matrices.values(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        artists: list[Artist] = [axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)]
        if len(class_names) <= 20:
            for (i, j), count in np.ndenumerate(matrix):
                colour = "white" if shares[i, j] > 0.5 else "black"
                words = f"{count:,}\n{shares[i, j]:.1%}"
                artists.append(axes.text(j, i, words, ha="center", va="center", color=colour))
        for artist in [*artists, *axes.spines.values()]:
            axes.draw_artist(artist)
        for artist in artists:
            artist.remove()
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png", compress_level=1, dpi=(120, 120))


@lru_cache(maxsize=2)
def _confusion_panels(
    titles: tuple[str, ...], class_names: tuple[str, ...]
) -> tuple[FigureCanvasAgg, tuple[Axes, ...], object]:
    """Return canvas, axes and the picture of what all jobs of a sweep share: half of the drawing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure = Figure(dpi=120)
    canvas = FigureCanvasAgg(figure)  # the object API: no global state, no display
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    longest = max(class_names, key=len)
    width, height, _ = (
        length / figure.dpi for length in renderer.get_text_width_height_descent(longest, FontProperties(), False)
    )
    # Margins in inches by hand: an automatic layout takes as long as all the rest.
    side, turn, gap = max(2.7, 0.9 * len(class_names)), radians(30), 0.35
    left, bottom = width + 0.6, width * sin(turn) + height * cos(turn) + 0.5
    total_width = left + len(titles) * (side + gap)
    total_height = bottom + side + 0.45
    figure.set_size_inches(total_width, total_height)
    ticks = range(len(class_names))
    panels = []
    for number, title in enumerate(titles):
        start = left + number * (side + gap)
        axes = figure.add_axes((start / total_width, bottom / total_height, side / total_width, side / total_height))
        axes.set_xticks(ticks, class_names, rotation=30, ha="right", parse_math=False)
        axes.set_yticks(ticks, class_names if number == 0 else [""] * len(class_names), parse_math=False)
        axes.set(xlabel="predicted", ylabel="true" if number == 0 else "", title=title)
        axes.set(xlim=(-0.5, len(class_names) - 0.5), ylim=(len(class_names) - 0.5, -0.5), autoscale_on=False)
        panels.append(axes)
    canvas.draw()  # type: ignore[no-untyped-call]
    return canvas, tuple(panels), canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]

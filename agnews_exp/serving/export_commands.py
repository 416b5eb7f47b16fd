"""`agnews export`: a network as an ONNX model folder that predict, serve and cascades take like any other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from agnews_exp.serving.exporting import Engine, Parity


def add_parsers(commands: Any) -> None:
    """Add the sub-command.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    export = commands.add_parser("export", help="a network (or a cascade's) as ONNX, int8 if wanted, and check it")
    export.add_argument("model", help="run (folder, name, MLflow id), model folder, or models:/name@alias")
    export.add_argument("--output", type=Path, help="folder to write (default: onnx or onnx-int8 beside the model)")
    export.add_argument("--int8", action="store_true", help="int8 weights and products: a quarter of the size")
    export.add_argument("--texts", help="file of texts to check with (default: validation rows of the run)")
    export.add_argument("--columns", default="text", help="columns or keys of that file joined into the text")
    export.add_argument("--rows", type=int, default=1000, help="so many texts are checked (default: 1000)")
    export.add_argument("--force", action="store_true", help="replace an exported folder")
    export.add_argument(
        "--strict", action="store_true", help="exit with 1 when the answers differ by more than allowed"
    )
    export.set_defaults(handler=_export)


def _export(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.errors import ConfigError
    from agnews_exp.config.validation import to_plain
    from agnews_exp.serving.exporting import check_parity, export_model
    from agnews_exp.serving.models import find_model

    if options.rows < 1:
        raise ConfigError(f"--rows {options.rows}: it must be at least 1.")
    plain = to_plain(compose_config([]))
    found = find_model(plain, options.model)
    precision = "int8" if options.int8 else "float32"
    output = options.output or found.folder.parent / ("onnx-int8" if options.int8 else "onnx")
    texts, labels = _check_rows(options, found.folder)
    export_model(found.folder, output, int8=options.int8, force=options.force)
    if not texts:
        print(f"exported to {output}, unchecked: {found.folder} is not a run's. Give --texts FILE to check it.")
        return
    parity = check_parity(found.folder, output, texts, labels, precision=precision)
    _show(found.name, parity)
    print(f"folder {output}\nnext   agnews predict {output} FILE   or   agnews serve {output}")
    for problem in parity.problems:
        print(f"warning: {problem} (details in {output / 'export.json'})", file=sys.stderr)
    if parity.problems and options.strict:
        sys.exit(1)


def _check_rows(options: argparse.Namespace, folder: Path) -> tuple[Sequence[str], NDArray[np.int64] | None]:
    """Return texts to check with and their classes: from a file, or drawn from the run's validation rows."""
    import itertools

    if options.texts is not None:
        from agnews_exp.config.errors import DataError
        from agnews_exp.serving.inputs import describe_source, read_items

        columns = [column.strip() for column in options.columns.split(",") if column.strip()]
        source = describe_source(options.texts, format=None, columns=columns, header=True)
        good = (item.text for item in read_items(source) if item.text is not None)
        texts = list(itertools.islice(good, options.rows))
        if not texts:
            raise DataError(f"--texts {options.texts} holds no text.")
        return texts, None
    from agnews_exp.reporting.analyses.finished import FinishedRun
    from agnews_exp.tracking.record import RunFolder

    run = RunFolder(folder.parent)
    if run.result() is None:
        return [], None
    import numpy as np

    rows = FinishedRun(run).splits.validation
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[: options.rows])
    part = rows.take(chosen)
    return part.texts, part.labels


def _show(name: str, parity: Parity) -> None:
    from rich.console import Console
    from rich.table import Table

    equal, difference = 100 * parity.labels_equal, parity.max_difference
    print(f"{name}: {equal:.2f} % of {parity.rows:,} labels equal, probabilities within {difference:.1e}")
    table = Table(box=None)
    table.add_column("")
    for column in ("MB", "ms, 1 text", "ms, 32 texts", "macro-F1"):
        table.add_column(column, justify="right")
    table.add_row("as it was", *_cells(parity.original))
    table.add_row(f"ONNX {parity.precision}", *_cells(parity.exported))
    ratio = parity.speedup
    size = parity.original.size_mb / parity.exported.size_mb
    table.add_row("ratio", f"{size:.1f}", f"{ratio[1]:.1f}", f"{ratio[32]:.1f}", "")
    Console(highlight=False).print(table)


def _cells(engine: Engine) -> list[str]:
    score = "-" if engine.macro_f1 is None else f"{engine.macro_f1:.4f}"
    return [f"{engine.size_mb:.1f}", f"{engine.milliseconds[1]:.1f}", f"{engine.milliseconds[32]:.1f}", score]

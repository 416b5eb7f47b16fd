"""Runs the notebooks of docs/notebooks from top to bottom and stores their outputs: `python scripts/run_notebooks.py`.

Each runs in an empty folder of its own, which is the project's root there; no notebook server is needed.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"


def run_notebook(path: Path) -> dict[str, Any]:
    """Run a notebook's code cells in order, in the current folder.

    Args:
        path: The .ipynb file.

    Returns:
        Its content with the outputs of this run.

    Raises:
        Exception: Whatever a cell raises.
    """
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for cell in content["cells"]:
        if cell["cell_type"] != "code":
            continue
        number += 1
        shown, said = _run_cell("".join(cell["source"]), f"{path.name}, cell {number}", names)
        cell["execution_count"] = number
        cell["outputs"] = _outputs(shown, said, number)
    return content


def _run_cell(source: str, where: str, names: dict[str, Any]) -> tuple[Any, str]:
    """Run a cell; return the value of its last line, where that is an expression, and what was printed."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, where, "exec"), names)  # noqa: S102 - our own documentation
        value = eval(compile(ast.Expression(last.value), where, "eval"), names) if last else None  # noqa: S307
    return value, printed.getvalue()


def _outputs(value: Any, printed: str, number: int) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    if printed:
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    return outputs


def main() -> None:
    """Run all notebooks, or those that are named, and write them back."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(NOTEBOOKS.glob("*.ipynb")):
        path = path.resolve()
        with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
            os.environ["AGNEWS_ROOT"] = root
            content = run_notebook(path)
        text = json.dumps(content, indent=1, ensure_ascii=False).replace(root, "/home/you/tickets")
        path.write_text(text + "\n", encoding="utf-8")
        print(f"{path.name}: {sum(cell['cell_type'] == 'code' for cell in content['cells'])} cells")


if __name__ == "__main__":
    main()

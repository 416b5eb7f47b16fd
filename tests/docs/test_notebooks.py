"""The notebooks of the documentation run from top to bottom in an empty folder, and are stored with their outputs."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPO / "docs" / "notebooks").glob("*.ipynb"))


def kinds(content):
    """What each code cell puts out: text, a table, or nothing."""
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    return [[output["output_type"] for output in cell["outputs"]] for cell in cells]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_puts_out_what_is_stored(path, tmp_path, monkeypatch):
    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = runpy.run_path(str(REPO / "scripts" / "run_notebooks.py"))["run_notebook"](path)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert kinds(run) == kinds(stored), "store it again: python scripts/run_notebooks.py"


def test_there_are_three_notebooks_and_the_page_about_python_names_each():
    page = (REPO / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in page

"""`make study-fast`: every stage of the study for real, what each leaves behind, and the report in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("AGNEWS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = (400, 1400)
SAMPLE_TRAINING_ROWS = 3400
NOT_DRAWN = """
    [...document.querySelectorAll('.plot')]
        .filter(plot => plot.closest('details:not([open])') === null)
        .filter(plot => !plot.dataset.drawn || !plot.querySelector('svg'))
        .map(plot => plot.dataset.chart)
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_stage_of_the_fast_study_does_its_work(project):
    assert "agnews study fast reference=ag_news_notebooks" in (REPO / "Makefile").read_text(), (
        "what `make study-fast` runs"
    )
    done = project.agnews("study", "fast", "reference=ag_news_notebooks", timeout=1400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    outputs = project.root / "outputs"
    stages = {s["name"]: s for s in json.loads((outputs / "studies/fast/study.json").read_text())["stages"]}
    assert len(stages) == 14
    for name, stage in stages.items():
        assert stage["status"] == "finished" or (stage["status"] == "left_out" and stage["reason"]), (name, stage)
    assert not [run for run in project.mlflow_runs() if run.info.status != "FINISHED"]
    check_classical_sweep(project, stages["classical"])
    if stages["transformer"]["status"] == "finished":
        check_cascade(outputs, stages["cascade"])
        check_students(project, stages)
    page = outputs / "reports" / "fast" / "report.html"
    check_page(page)
    if CHROMIUM and find_spec("playwright"):
        check_in_browser(page)


def check_classical_sweep(project, stage):
    """The grids make one sweep; its parent run carries the study's tables."""
    (name,) = stage["sweeps"]
    sweep = project.root / "outputs" / "sweeps" / name
    assert len(list(sweep.glob("jobs/[0-9]*.report.json"))) == 26
    assert "0.9018" in (sweep / "tables.md").read_text(), "the published score of multinomial_nb"
    notes = [run.data.tags.get("mlflow.note.content", "") for run in project.mlflow_runs() if run.info.run_name == name]
    assert "Published numbers beside own ones" in "".join(notes)


def check_cascade(outputs, stage):
    """A cascade's own findings say what its run says of it."""
    folders = [outputs / "runs" / run for run in stage["runs"]]
    results = {
        result["model"]: (f, result) for f in folders for result in [json.loads((f / "result.json").read_text())]
    }
    assert set(results) == {"cascade", "blend"}
    folder, result = results["cascade"]
    findings = json.loads((folder / "analysis" / "cascade" / "findings.json").read_text())
    assert findings["details"]["chosen"]["accuracy"]["estimate"] == pytest.approx(result["metrics"]["test/accuracy"])
    assert {"routing.json", "risk_coverage.json"} <= {p.name for p in (folder / "analysis" / "cascade").iterdir()}
    assert "train/macro_f1" not in result["metrics"], "nothing of a cascade is fitted on training rows"


def check_students(project, stages):
    """A student stands beside its teacher and beside itself without one."""
    (teacher,) = (project.result(project.root / "outputs" / "runs" / run) for run in stages["transformer"]["runs"])
    (name,) = stages["distillation"]["sweeps"]
    table = (project.root / "outputs" / "sweeps" / name / "tables.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "0." in line]
    others = SAMPLE_TRAINING_ROWS - teacher["data"]["rows"]["train"]
    assert rows[0][0].startswith("teacher: ")
    assert rows[0][3:5] == [f"{teacher['metrics'][f'{split}/macro_f1']:.4f}" for split in ("val", "test")]
    assert [row[:3] for row in rows[1:]] == [
        ["ngram_softmax", "labels", "–"],
        ["ngram_softmax", "teacher (alpha 0.5, T 2)", "–"],
        ["ngram_softmax", "teacher (alpha 0.5, T 2)", f"{others:,}"],
    ]


class Page(HTMLParser):
    """Collects the page's identifiers, the plots it wants drawn, and the text of its data script."""

    def __init__(self):
        super().__init__()
        self.identifiers, self.plots, self.data, self._inside = set(), [], "", False

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.identifiers |= {known["id"]} if "id" in known else set()
        self.plots += [known["data-chart"]] if "data-chart" in known else []
        self._inside = known.get("id") == "drawn"

    def handle_data(self, data):
        self.data += data if self._inside else ""


def check_page(path):
    """Every section could be made, every plot has data, and nothing is fetched."""
    text = path.read_text(encoding="utf-8")
    assert "could not be made from the stored files" not in text
    page = Page()
    page.feed(text)
    specs = json.loads(page.data)["charts"]
    assert len(page.plots) > 10
    assert sorted(page.plots) == sorted(specs)
    for name, spec in specs.items():
        assert '"values": [{' in json.dumps(spec), name
    assert {"answer", "models", "errors", "calibration", "cost", "data", "published"} <= page.identifiers
    markup = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # of the page, not of its scripts
    assert not re.search(r"<(?:script|img|link)[^>]+(?:src|href)=\"(?!data:)", markup)


def check_in_browser(path):
    """The browser has nothing to complain of, draws every plot, and no table or figure is wider than the page."""
    from playwright.sync_api import sync_playwright

    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(path.as_uri(), timeout=120_000)
            page.wait_for_load_state("load")
            assert page.evaluate(NOT_DRAWN) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert complaints == []

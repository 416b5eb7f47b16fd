"""Pictures of the MLflow UI and of the report, as README and the documentation show them.

    pip install -e '.[screenshots]'
    python scripts/screenshots.py                          a small sweep of its own, pictures to docs/images/
    python scripts/screenshots.py --root /data/project --report outputs/reports/full/report.html

The UI is looked at in headless Chromium: the list of runs, the jobs of a sweep, the charts of several runs, four runs
compared. Errors that a page writes to its console are printed, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
SWEEP = [
    "-m",
    "data=sample",
    "model=multinomial_nb,complement_nb,logreg,linear_svc,sgd_modified_huber,ngram_linear",
    "features=word_tfidf",
    "seed=1,2",
    "sweep.name=six_models",
]
SIZE = {"width": 1440, "height": 900}
LOAD_SECONDS = 120
SETTLE_SECONDS = 6
# What a visitor has clicked away once: the assistant's panel.
PREFERENCES = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.assistant.panelOpen_v1": "false"}
HARMLESS = ("404 (Not Found)",)  # MLflow asks for features that the local server does not have


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_ui(root: Path) -> Iterator[int]:
    """Run `agnews ui` on a project root; gives the port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "agnews_exp.cli", "ui", "--port", str(port)],
        env=os.environ | {"AGNEWS_ROOT": str(root)},
        cwd=REPO,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + LOAD_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("the MLflow UI did not start") from None
                time.sleep(0.5)
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def stored_runs(root: Path) -> tuple[str, list[str]]:
    """Return the experiment's id and four finished jobs of different models, best first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlruns' / 'mlflow.db'}")
    latest = client.search_runs(
        [known.experiment_id for known in client.search_experiments()],
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not latest:
        raise SystemExit(f"{root}: no runs in the store")
    experiment = latest[0].info.experiment_id
    found = client.search_runs([experiment], order_by=["metrics.`val/macro_f1` DESC"], max_results=500)
    best: dict[str, Any] = {}
    for run in found:
        if "val/macro_f1" in run.data.metrics:
            best.setdefault(run.data.params.get("model", ""), run)
    return experiment, [run.info.run_id for run in best.values()][:4]


def ui_pages(root: Path, port: int) -> dict[str, str]:
    """Return picture name -> address."""
    experiment, runs = stored_runs(root)
    base = f"http://127.0.0.1:{port}/#"
    mode = "workflowType=machine_learning"
    page = f"{base}/experiments/{experiment}/runs"
    view = f"{page}?viewStateShareKey="

    def quoted(value: object) -> str:
        return urllib.parse.quote(value if isinstance(value, str) else json.dumps(value), safe="")

    return {
        "mlflow_runs": f"{view}agnews&{mode}",
        "mlflow_sweep": f"{view}sweeps&{mode}",
        "mlflow_charts": f"{view}agnews&{mode}&compareRunsMode=CHART",
        "mlflow_compare": f"{base}/compare-runs?runs={quoted(runs)}&experiments={quoted([experiment])}&{mode}",
    }


def take(pages: dict[str, str], folder: Path, chromium: str, *, settle: float) -> list[str]:
    """Write a PNG of each page; returns what the pages complained of."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    lines = [f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)});" for key, value in PREFERENCES.items()]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE)
        for name, address in pages.items():
            page = context.new_page()
            if address.startswith("http"):
                page.add_init_script("\n".join(lines))

            def listen(message: Any, name: str = name) -> None:
                if message.type == "error" and not any(text in message.text for text in HARMLESS):
                    complaints.append(f"{name}: {message.text[:300]}")

            page.on("console", listen)
            page.on("pageerror", lambda error, name=name: complaints.append(f"{name}: {error}"))
            page.goto(address, timeout=LOAD_SECONDS * 1000)
            if address.startswith("http"):
                page.wait_for_selector("h1, h2, [role=heading]", timeout=LOAD_SECONDS * 1000)
            if name == "mlflow_sweep":
                page.locator("button[data-component-id*=runnamecellrenderer]").first.click(timeout=LOAD_SECONDS * 1000)
            page.wait_for_timeout(settle * 1000)
            page.screenshot(path=folder / f"{name}.png")
            print(folder / f"{name}.png", flush=True)
            page.close()
        browser.close()
    return complaints


def main() -> None:
    """Make what is missing, take the pictures, report complaints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="project root with runs (default: a small sweep in a new one)")
    parser.add_argument("--report", type=Path, help="also a picture of this report.html, light and dark")
    parser.add_argument("--output", type=Path, default=REPO / "docs" / "images")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome") or "")
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS, help="seconds to wait on each page")
    options = parser.parse_args()
    if not options.chromium:
        raise SystemExit("no Chromium found; name one with --chromium PATH")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as folder:
        root = options.root or Path(folder)
        if options.root is None:
            command = [sys.executable, str(REPO / "run.py"), *SWEEP]
            subprocess.run(command, env=os.environ | {"AGNEWS_ROOT": str(root)}, check=True)
        with mlflow_ui(root) as port:
            pages = ui_pages(root, port)
            complaints = take(pages, options.output, options.chromium, settle=options.settle)
    if options.report:
        address = options.report.resolve().as_uri()
        complaints += take({"report": address}, options.output, options.chromium, settle=options.settle)
    for complaint in complaints:
        print(f"console: {complaint}", file=sys.stderr)
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()

"""The view that the MLflow UI opens with: the columns by which runs are worth comparing, best run first.

MLflow keeps a shared view of its run table in an experiment tag and opens it by ``viewStateShareKey`` in the address
(its own "share" button does the same), so the view needs no code in the browser.
"""

from __future__ import annotations

import json

SHARE_KEY = "agnews"
"""The view with the best runs first."""
SWEEPS_KEY = "sweeps"
"""The view with the latest first, jobs below their sweep."""

_COLUMNS = (
    "metrics.`val/macro_f1`",
    "metrics.`test/macro_f1`",
    "metrics.`test/accuracy`",
    "metrics.`time/fit`",
    "metrics.`throughput_batch`",
    "params.`model`",
    "params.`features`",
    "params.`data_fraction`",
    "params.`seed`",
    "tags.`data.source`",
)
_SECTION = "agnews-headline"
_CHARTS: tuple[dict[str, object], ...] = (
    {"type": "BAR", "metricKey": "val/macro_f1", "displayName": "validation macro-F1"},
    {"type": "BAR", "metricKey": "test/macro_f1", "displayName": "test macro-F1"},
    {"type": "BAR", "metricKey": "time/fit", "displayName": "seconds of fitting"},
    {
        "type": "SCATTER",
        "xaxis": {"key": "throughput_batch", "type": "METRIC"},
        "yaxis": {"key": "val/macro_f1", "type": "METRIC"},
        "displayName": "validation macro-F1 by documents a second",
    },
    {
        "type": "PARALLEL",
        "selectedParams": ["model", "features", "data_fraction"],
        "selectedMetrics": ["val/macro_f1"],
        "showAllRuns": False,
        "displayName": "choices and validation macro-F1",
    },
)


def experiment_tags() -> dict[str, str]:
    """Return the tags that an experiment gets: kind of page, note, and the shared views."""
    best = {"orderByKey": "metrics.`val/macro_f1`", "orderByAsc": False}
    latest = {"orderByKey": "attributes.start_time", "orderByAsc": False}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{SHARE_KEY}": json.dumps(_view() | best),
        f"mlflow.sharedViewState.{SWEEPS_KEY}": json.dumps(_view() | latest),
        "mlflow.note.content": (
            "Runs of agnews-exp. Choose models by `val/macro_f1`; `test/` metrics were computed once, at the end. "
            "Runs are comparable when their tag `data.evaluation_checksum` is equal."
        ),
    }


def _view() -> dict[str, object]:
    # The names and fields are those that MLflow's own "share" button stores.
    section = {"uuid": _SECTION, "name": "headline", "display": True, "isReordered": False, "deleted": False}
    common = {"runsCountToCompare": 10, "metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return {
        "searchFilter": "",
        "lifecycleFilter": "Active",
        "selectedColumns": list(_COLUMNS),
        "isAccordionReordered": True,  # else sections come in alphabetical order
        "compareRunSections": [section | {"isGenerated": False}],
        "compareRunCharts": [common | {"uuid": f"agnews-{i}"} | chart for i, chart in enumerate(_CHARTS)],
    }


def runs_address(host: str, port: int, experiment_id: str, view: str = SHARE_KEY) -> str:
    """Return the address of an experiment's runs in a shared view."""
    page = f"http://{host}:{port}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={view}&workflowType=machine_learning"  # else its menu is that for language models

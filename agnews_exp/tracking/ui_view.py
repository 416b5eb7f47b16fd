"""The view that the MLflow UI opens with: the columns by which runs are worth comparing, best run first.

MLflow keeps a shared view of its run table in an experiment tag and opens it by ``viewStateShareKey`` in the address
(its own "share" button does the same), so the view needs no code in the browser.
"""

from __future__ import annotations

import json

SHARE_KEY = "agnews"

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


def experiment_tags() -> dict[str, str]:
    """Return the tags that a new experiment gets: kind of page, note, and the shared view."""
    view = {
        "searchFilter": "",
        "orderByKey": "metrics.`val/macro_f1`",
        "orderByAsc": False,
        "lifecycleFilter": "Active",
        "selectedColumns": list(_COLUMNS),
    }
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{SHARE_KEY}": json.dumps(view),
        "mlflow.note.content": (
            "Runs of agnews-exp. Choose models by `val/macro_f1`; `test/` metrics were computed once, at the end. "
            "Runs are comparable when their tag `data.evaluation_checksum` is equal."
        ),
    }


def runs_address(host: str, port: int, experiment_id: str) -> str:
    """Return the address of an experiment's runs in the shared view."""
    return f"http://{host}:{port}/#/experiments/{experiment_id}/runs?viewStateShareKey={SHARE_KEY}"

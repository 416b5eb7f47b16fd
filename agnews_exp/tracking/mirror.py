"""What of a run record goes to MLflow, and under which names; the same for a live run and for `agnews sync`."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.tracking import record
from agnews_exp.tracking.lightning_bridge import replay_history
from agnews_exp.tracking.store import flatten

_PARAM_GROUPS = ("data", "subset", "features", "model", "trainer", "evaluation")
_PARAM_SCALARS = ("seed", "split_seed", "data_fraction")
_TRIES = 8
_BATCH, _METRICS = 100, 900  # MLflow takes 100 params or tags and 1,000 items in all at once
_EXAMPLE_TEXTS = ["Shares rise as profits beat forecasts", "Champions win the final in extra time"]


def log_start(run_id: str, plain: Mapping[str, Any], environment: Mapping[str, Any], folder: Path) -> None:
    """Log what is known before any work: params and the tags that identify code and machine."""
    from mlflow.entities import Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    params = {k: str(plain[k]) for k in _PARAM_SCALARS}
    for group in _PARAM_GROUPS:
        if group == "trainer" and plain["model"]["family"] == "classical":
            params["trainer.n_jobs"] = str(plain["trainer"]["n_jobs"])
            continue
        params |= _param_names(flatten(plain[group], group))
    git = environment["git"]
    tags = {str(k): str(v) for k, v in plain["tags"].items()} | {
        "model": plain["model"]["name"],
        "features": plain["features"]["name"],
        "family": plain["model"]["family"],
        "data": plain["data"]["name"],
        "git.commit": str(git["commit"]),
        "git.dirty": str(git["dirty"]),
        "host": environment["hostname"],
        "hardware": f"{environment['cpu']}, {environment['cpu_cores']} cores, {environment['memory_gb']} GB",
        "python": environment["python"],
        "agnews_exp": environment["agnews_exp"],
        "run_folder": str(folder),
        "pid": str(environment["pid"]),
    }
    tags |= {f"version.{name}": v for name, v in environment["packages"].items() if v}
    items = [Param(k, v) for k, v in params.items()]
    client.log_batch(run_id, params=items[:_BATCH], tags=[RunTag(k, v) for k, v in tags.items()])
    for start in range(_BATCH, len(items), _BATCH):
        client.log_batch(run_id, params=items[start : start + _BATCH])


def _param_names(flat: Mapping[str, str]) -> dict[str, str]:
    """``model.name`` is shown as ``model``: the choice of a group goes by the group's own name."""
    return {key.removesuffix(".name"): value for key, value in flat.items()}


def log_record(run_id: str, folder: Path, *, with_model: bool) -> None:
    """Log a finished record: model, metrics, tags, dataset input, artifacts, and a note with the headline table.

    The model comes first, so that the metrics can be logged as the run's and the model's in one go; one that cannot be
    logged does not keep the rest from MLflow.
    """
    result = record.read_json(folder / record.RESULT)
    if result is None:
        raise FileNotFoundError(folder / record.RESULT)
    model_id: str | None = None
    failure: Exception | None = None
    if with_model and (folder / record.MODEL).is_dir():
        try:
            model_id = _log_model(run_id, folder / record.MODEL, tuple(result["class_names"]))
        except Exception as error:
            failure = error
    _log_result(run_id, result, model_id)
    _log_files(run_id, folder)
    replay_history(run_id, folder)
    if failure is not None:
        raise failure


def _log_result(run_id: str, result: Mapping[str, Any], model_id: str | None) -> None:
    """Log the numbers, the tags and the data of a result.

    Args:
        run_id: The MLflow run.
        result: The content of result.json.
        model_id: The logged model that the metrics belong to.
    """
    from mlflow.entities import Metric, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    now = int(time.time() * 1000)
    # The page that compares runs opens with the metric that was logged first.
    ordered = sorted(result["metrics"].items(), key=lambda item: item[0] != result["primary"])
    metrics = [Metric(k, float(v), now, 0, model_id) for k, v in ordered if math.isfinite(v)]
    metrics += [Metric(f"time/{k}", float(v), now, 0, model_id) for k, v in result["timings"].items()]
    for name, per_fold in result.get("folds", {}).items():
        metrics += [Metric(f"cv_fold/{name}", float(v), now, fold) for fold, v in enumerate(per_fold)]
    data = result["data"]
    tags = {
        "fingerprint": result["fingerprint"],
        "data.source": data["source"],
        "data.location": data["location"],
        "data.checksum": data["checksum"],
        "data.duplicates": ", ".join(f"{pair} {n}" for pair, n in data["duplicates"].items()),
        "data.evaluation_checksum": data["evaluation_checksum"],
        "mlflow.note.content": headline_note(result),
    }
    run_tags = [RunTag(k, str(v)[:5000]) for k, v in tags.items()]
    client.log_batch(run_id, metrics=metrics[:_METRICS], tags=run_tags)
    for start in range(_METRICS, len(metrics), _METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS])
    _log_dataset(run_id, data)


def _log_files(run_id: str, folder: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    for name in (record.CONFIG, record.ENVIRONMENT, record.RESULT, record.REPORT, record.PREDICTIONS):
        if (folder / name).is_file():
            client.log_artifact(run_id, str(folder / name))
    for name in (record.FIGURES, record.ANALYSES):
        if (folder / name).is_dir():
            client.log_artifacts(run_id, str(folder / name), name)


def headline_note(result: Mapping[str, Any]) -> str:
    """Return the Markdown that the MLflow UI shows at the top of a run."""
    data, metrics = result["data"], result["metrics"]
    rows = data["rows"]
    splits = {split: title for split, title in (("val", "validation"), ("test", "test")) if split in rows}
    lines = [f"| | {' | '.join(splits.values())} |", "| --- |" + " --- |" * len(splits)]
    for name in ("macro_f1", "accuracy", "weighted_f1", "cohen_kappa", "mcc", "log_loss"):
        if f"val/{name}" in metrics:
            values = " | ".join(f"{metrics[f'{split}/{name}']:.4f}" for split in splits)
            lines.append(f"| {name} | {values} |")
    tested = f"{rows['test']:,} test rows" if "test" in rows else "test rows not scored"
    lines += [
        "",
        f"{data['source']}, {rows['train']:,} training, {rows['val']:,} validation, {tested}; "
        f"seed {result['seed']}, split seed {result['split_seed']}.",
    ]
    return "\n".join(lines)


def _log_dataset(run_id: str, data: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    inputs = [
        DatasetInput(
            Dataset(
                name=data["name"],
                digest=data["digests"][split],
                source_type="local",
                source=data["location"],
                profile=f'{{"num_rows": {rows}}}',
            ),
            [InputTag("mlflow.data.context", split)],
        )
        for split, rows in data["rows"].items()
    ]
    for left in reversed(range(_TRIES)):
        try:
            MlflowClient().log_inputs(run_id, inputs)
        except MlflowException as error:
            # Runs that log the same new data set at once: MLflow looks for it, finds none, and all but one fail.
            if left == 0 or not any(word in str(error) for word in ("duplicate key", "UNIQUE constraint")):
                raise
            time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
        else:
            return


def _log_model(run_id: str, folder: Path, class_names: tuple[str, ...]) -> str:
    """Log the saved model, skops or safetensors, and return the logged model's id."""
    from agnews_exp.tracking.logged_model import Flavour, log_saved

    flavour: Flavour
    if (record.read_json(folder / "manifest.json") or {}).get("family") == "classical":
        from agnews_exp.tracking.classical_model import SavedPipeline

        flavour = SavedPipeline()
    else:
        from agnews_exp.tracking.folder_model import SavedFolder

        flavour = SavedFolder()
    return log_saved(flavour, run_id, folder, class_names, _EXAMPLE_TEXTS)

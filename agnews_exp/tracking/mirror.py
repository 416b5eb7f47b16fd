"""What of a run record goes to MLflow, and under which names; the same for a live run and for `agnews sync`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.tracking import record
from agnews_exp.tracking.lightning_bridge import replay_history
from agnews_exp.tracking.store import flatten

_PARAM_GROUPS = ("data", "subset", "features", "model", "trainer", "evaluation")
_PARAM_SCALARS = ("seed", "split_seed", "data_fraction")
_BATCH = 100


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
    for start in range(0, len(items), _BATCH):
        client.log_batch(run_id, params=items[start : start + _BATCH])
    client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])


def _param_names(flat: Mapping[str, str]) -> dict[str, str]:
    """``model.name`` is shown as ``model``: the choice of a group goes by the group's own name."""
    return {key.removesuffix(".name"): value for key, value in flat.items()}


def log_record(run_id: str, folder: Path, *, with_model: bool) -> None:
    """Log a finished record: metrics, tags, dataset input, artifacts, model, and a note with the headline table."""
    from mlflow.entities import Metric, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    result = record.read_json(folder / record.RESULT)
    if result is None:
        raise FileNotFoundError(folder / record.RESULT)
    now = int(time.time() * 1000)
    metrics = [Metric(k, float(v), now, 0) for k, v in result["metrics"].items() if math.isfinite(v)]
    metrics += [Metric(f"time/{k}", float(v), now, 0) for k, v in result["timings"].items()]
    for name, per_fold in result.get("folds", {}).items():
        metrics += [Metric(f"cv_fold/{name}", float(v), now, fold) for fold, v in enumerate(per_fold)]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
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
    client.log_batch(run_id, tags=[RunTag(k, str(v)[:5000]) for k, v in tags.items()])
    _log_dataset(run_id, data)
    for name in (record.CONFIG, record.ENVIRONMENT, record.RESULT, record.REPORT, record.PREDICTIONS):
        if (folder / name).is_file():
            client.log_artifact(run_id, str(folder / name))
    if (folder / record.FIGURES).is_dir():
        client.log_artifacts(run_id, str(folder / record.FIGURES), record.FIGURES)
    replay_history(run_id, folder)
    if with_model and (folder / record.MODEL).is_dir():
        _log_model(run_id, folder / record.MODEL, tuple(result["class_names"]))


def headline_note(result: Mapping[str, Any]) -> str:
    """Return the Markdown that the MLflow UI shows at the top of a run."""
    data, metrics = result["data"], result["metrics"]
    lines = ["| | validation | test |", "| --- | --- | --- |"]
    for name in ("macro_f1", "accuracy", "weighted_f1", "cohen_kappa", "mcc", "log_loss"):
        if f"test/{name}" in metrics:
            lines.append(f"| {name} | {metrics[f'val/{name}']:.4f} | {metrics[f'test/{name}']:.4f} |")
    rows = data["rows"]
    lines += [
        "",
        f"{data['source']}, {rows['train']:,} training, {rows['val']:,} validation, {rows['test']:,} test rows; "
        f"seed {result['seed']}, split seed {result['split_seed']}.",
    ]
    return "\n".join(lines)


def _log_dataset(run_id: str, data: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
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
    MlflowClient().log_inputs(run_id, inputs)


def _log_model(run_id: str, folder: Path, class_names: tuple[str, ...]) -> None:
    """Log the saved model, skops or safetensors; loading it first proves that the saved file is good."""
    import mlflow
    import mlflow.sklearn
    import numpy as np
    from mlflow.models import infer_signature

    from agnews_exp.models.persistence import MODEL_FILE, load_pipeline, trusted_types

    texts = np.asarray(["Shares rise as profits beat forecasts", "Champions win the final in extra time"], dtype=object)
    if (record.read_json(folder / "manifest.json") or {}).get("family") == "transformer":
        from agnews_exp.tracking.transformer_model import log_transformer

        with _active(run_id):
            log_transformer(folder, class_names, texts)
        return
    pipeline = load_pipeline(folder)
    with _active(run_id):
        mlflow.sklearn.log_model(
            pipeline,
            name="model",
            serialization_format="skops",
            skops_trusted_types=trusted_types(folder / MODEL_FILE),
            signature=infer_signature(texts, pipeline.predict(texts)),
            input_example=texts,
            pip_requirements=["agnews-exp", "mlflow"],
            metadata={"class_names": list(class_names)},
        )


def _active(run_id: str) -> Any:
    """Return a context in which ``run_id`` is the active run, without ending it when it was so already."""
    from contextlib import nullcontext

    import mlflow

    active = mlflow.active_run()
    return nullcontext() if active is not None and active.info.run_id == run_id else mlflow.start_run(run_id=run_id)

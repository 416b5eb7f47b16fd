"""What of a run record goes to MLflow, and under which names; the same for a live run and for `agnews sync`."""

from __future__ import annotations

import logging
import math
import os
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.core.paths import HISTORY
from agnews_exp.tracking import record
from agnews_exp.tracking.record import PARENT_RUN, sweep_tags
from agnews_exp.tracking.store import flatten, prepare_store

log = logging.getLogger(__name__)

_BUNDLE = 500
_SECONDS = 5.0
_TRIES = 3


class CurveBuffer:
    """Collects points and sends them every few seconds.

    After three failures in a row it gives up with one warning: the points are in the run folder, and `agnews sync`
    sends them again.
    """

    def __init__(self) -> None:
        self._points: list[Any] = []
        self._run_id = ""
        self._sent = time.monotonic()
        self._failures = 0

    def add(self, run_id: str, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take one point of every curve.

        Args:
            run_id: The open MLflow run.
            values: Numbers by name.
            step: Optimiser step.
            timestamp_ms: When, in milliseconds since 1970.
        """
        if self._failures >= _TRIES:
            return
        from mlflow.entities import Metric

        self._run_id = run_id
        self._points += [Metric(name, value, timestamp_ms, step) for name, value in values.items()]
        if len(self._points) >= _BUNDLE or time.monotonic() - self._sent >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what has been collected; never raises."""
        if not self._points or self._failures >= _TRIES:
            return
        self._sent = time.monotonic()
        try:
            _send(self._run_id, self._points)
        except Exception as error:
            self._failures += 1
            if self._failures == _TRIES:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                log.warning("Training curves do not reach MLflow (%s); log them later with: agnews sync", reason)
            return
        self._failures = 0
        self._points = []


def replay_history(run_id: str, folder: Path) -> None:
    """Send all points of a run folder; those that MLflow has already are not doubled (same step and time)."""
    import json

    from mlflow.entities import Metric

    path = folder / HISTORY
    if not path.is_file():
        return
    points: list[Any] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            step, timestamp = int(values.pop("step")), int(values.pop("time"))
        except (ValueError, KeyError):
            continue  # the last line of a killed run may be cut
        points += [Metric(name, float(value), timestamp, step) for name, value in values.items()]
    _send(run_id, points)


def _send(run_id: str, points: list[Any]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    for start in range(0, len(points), _BUNDLE):
        client.log_batch(run_id, metrics=points[start : start + _BUNDLE])


_PARAM_GROUPS = ("data", "subset", "features", "model", "trainer", "evaluation")
_PARAM_SCALARS = ("seed", "split_seed", "data_fraction")
_TRIES_MIRROR = 8
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
    for left in reversed(range(_TRIES_MIRROR)):
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
        from agnews_exp.tracking.logged_model import SavedPipeline

        flavour = SavedPipeline()
    else:
        from agnews_exp.tracking.logged_model import SavedFolder

        flavour = SavedFolder()
    return log_saved(flavour, run_id, folder, class_names, _EXAMPLE_TEXTS)


class OpenRun:
    """One MLflow run in this process: it is the active run while it is open.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.

    Attributes:
        run_id: MLflow's id, or None while it is not open.
        complete: Whether the finished record is completely in MLflow.
    """

    def __init__(
        self, plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
    ) -> None:
        self._plain, self._folder, self._environment, self._resumed = plain, folder, environment, resumed
        self._settings = plain["tracking"]
        self._curves = CurveBuffer()
        self.run_id: str | None = None
        self.complete = False

    def open(self) -> None:
        """Create the run, or open the one that goes on, and log what is known before any work."""
        mlruns = Path(self._plain["paths"]["mlruns_dir"])
        uri, experiment_id = prepare_store(mlruns, self._settings["uri"], self._settings["experiment"])
        import mlflow

        mlflow.set_tracking_uri(uri)
        # A classical fit is short, and MLflow's page of a comparison opens with whichever metric was logged first.
        asked = self._settings["system_metrics"]
        system = self._plain["model"]["family"] != "classical" if asked is None else bool(asked)
        if system:
            mlflow.set_system_metrics_sampling_interval(  # type: ignore[no-untyped-call]
                self._settings["system_metrics_interval"]
            )
            logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        # Host and pid go in with the run itself: a process that dies right after still leaves a run that can be closed.
        own = {"host": self._environment["hostname"], "pid": str(self._environment["pid"])}
        if (earlier := self._earlier_run()) is not None:
            run = mlflow.start_run(run_id=earlier, log_system_metrics=system)
            mlflow.set_tags(own | {"resumed": str(int(time.time() * 1000))})
            self.run_id = run.info.run_id
            return
        run = mlflow.start_run(run_id=self._create(experiment_id, own), log_system_metrics=system)
        self.run_id = run.info.run_id
        self._note()
        log_start(self.run_id, self._plain, self._environment, self._folder)

    def _create(self, experiment_id: str, tags: Mapping[str, str]) -> str:
        """Create the MLflow run as begun when this run began, which ``mlflow.start_run`` cannot; return its id."""
        from mlflow.tracking import MlflowClient
        from mlflow.tracking.context.registry import resolve_tags
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        parent = os.environ.get(PARENT_RUN)
        nested = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        created = MlflowClient().create_run(
            experiment_id,
            start_time=record.RunFolder(self._folder).started_ms,
            run_name=self._plain["name"],
            tags=resolve_tags({**sweep_tags(), **tags, **nested}),  # user, program and commit, as start_run has them
        )
        return str(created.info.run_id)

    def opened(self) -> str | None:
        """Return the run's id; it is open when :meth:`open` has returned."""
        return self.run_id

    def _earlier_run(self) -> str | None:
        """Return the MLflow run of the run that is resumed, if this store has it."""
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        note = record.read_json(self._folder / record.TRACKING) if self._resumed else None
        if not note or not note.get("run_id"):
            return None
        try:
            return str(MlflowClient().get_run(str(note["run_id"])).info.run_id)
        except MlflowException:
            return None

    def _note(self) -> None:
        content = {"run_id": self.run_id, "complete": self.complete, "experiment": self._settings["experiment"]}
        record.write_json(self._folder / record.TRACKING, content)

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take a point of some training curves; never raises."""
        if self.run_id is not None:
            self._curves.add(self.run_id, values, step, timestamp_ms)

    def mirror(self) -> None:
        """Log the finished record."""
        if self.run_id is None:
            return
        self._curves.flush()
        log_record(self.run_id, self._folder, with_model=bool(self._settings["log_model"]))
        self.complete = True
        self._note()

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """End the run.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.
        """
        if "mlflow" not in sys.modules:
            return
        import mlflow

        self._curves.flush()
        if mlflow.active_run() is None:
            return
        if pruned is not None:
            step, value = pruned
            mlflow.set_tags({"pruned": "true", "pruned.step": str(step)})
            primary = str(self._plain["evaluation"]["primary"]).replace("/", "_")
            mlflow.log_metric(f"pruned/{primary}", value, step=step)
        # A signal that came while the last of a finished record was logged changes nothing about the run.
        mlflow.end_run("FINISHED" if self.complete else status)

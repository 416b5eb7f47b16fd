"""The mirror of run and sweep folders in MLflow: :func:`mirror` gives an MLflow run the content of a folder.

A folder can be mirrored at any moment and any number of times: while its run trains, at its end, or years later into
another store by `agnews sync`. Which MLflow run a folder has in which store is noted in its tracking.json.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import AgnewsError, first_line
from agnews_exp.core.paths import HISTORY
from agnews_exp.core.process import check_terminated, is_gone
from agnews_exp.core.text import markdown_cell, markdown_table
from agnews_exp.tracking import record
from agnews_exp.tracking.record import RunFolder, read_json
from agnews_exp.tracking.store import flatten, prepare_store

log = logging.getLogger(__name__)

SWEEP, SWEEP_RESULTS = "sweep.json", "mlflow.json"
"""Inside a sweep's folder: its description, and the results that MLflow shows."""

N_PARAMS = 20
"""How many parameters MLflow gets, unless more were given on the command line; the rest is in config.yaml."""

_GROUPS = ("data", "split", "subset", "features", "model", "trainer", "evaluation")
_TRAINER = ("max_epochs", "batch_size", "lr", "n_jobs")
_ENDS = {"running": "RUNNING", "finished": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
"""MLflow's words; it has none for a run that a search gave up on, which tags say."""
_EXAMPLE_TEXTS = ["A first text to classify", "And a second one"]
_LAST_LOOK_SECONDS = 10.0
_BUNDLE, _PARAMS_AT_ONCE, _TRIES = 500, 100, 8


@dataclass(frozen=True)
class State:
    """How far a folder's run or sweep has come."""

    status: str  # running, finished, failed, killed or pruned
    since: str  # when that was written (ISO 8601), by which a later state is told from an earlier one
    started_ms: int | None  # when the run began, in milliseconds since the epoch
    reason: str | None = None  # why it ended as it did, where it is not finished
    pruned: Mapping[str, Any] | None = None  # ``step`` and ``value`` at which a search gave up on it

    @property
    def ended_ms(self) -> int:
        """When this state was written, in milliseconds since the epoch; not before the beginning, as clocks go back."""
        return max(milliseconds(self.since) or int(time.time() * 1000), self.started_ms or 0)

    def __str__(self) -> str:
        return f"{self.status} {self.since}"


class Store:
    """One MLflow store, with the client and the experiments that mirroring needs.

    ``progress`` is called after each step, so that somebody can see that the store answers.
    """

    def __init__(self, plain: Mapping[str, Any], progress: Callable[[], None] = lambda: None) -> None:
        self._settings = plain["tracking"]
        self._experiments: dict[str, tuple[str, str]] = {}
        self._sent: dict[str, int] = {}
        self.progress = progress
        self.with_models = bool(self._settings["log_model"])
        self.mlruns = Path(plain["paths"]["mlruns_dir"])
        self.default = str(self._settings["experiment"])
        self.output_dir = Path(plain["paths"]["output_dir"])
        self.client: Any = None

    def connect(self, experiment: str | None = None) -> str:
        """Make the client; return the id of an experiment, which is made where it is missing, or of none."""
        uri, experiment_id = prepare_store(self.mlruns, self._settings["uri"], experiment)
        import mlflow
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(uri)  # a logged model is looked up in the global store, whatever the client's
        self.client = MlflowClient(tracking_uri=uri)
        return experiment_id

    def experiment(self, name: str | None = None) -> tuple[str, str]:
        """Return an experiment's id, and the key under which folders note their MLflow runs in it.

        The key is made of what the store itself has, so that it holds where the store is moved or copied, and another
        store has another one.
        """
        name = name or self.default
        if name not in self._experiments:
            experiment_id = self.connect(name)
            made = self.client.get_experiment(experiment_id).creation_time
            self._experiments[name] = experiment_id, f"{experiment_id}-{made}"
            self.progress()
        return self._experiments[name]

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Sequence[Any] = (),
    ) -> None:
        """Log a run in bundles: MLflow takes 1,000 items at once, and 100 parameters or tags."""
        from mlflow.entities import Param, RunTag

        left_params = [Param(key, value) for key, value in (params or {}).items()]
        left_tags = [RunTag(key, value[:5000]) for key, value in (tags or {}).items()]
        left = list(metrics)
        while left_params or left_tags or left:
            n = _PARAMS_AT_ONCE
            self.client.log_batch(run_id, params=left_params[:n], tags=left_tags[:n], metrics=left[:_BUNDLE])
            left_params, left_tags, left = left_params[n:], left_tags[n:], left[_BUNDLE:]
            self.progress()

    def log_folder(
        self,
        name: str,
        folder: Path,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        experiment: str | None = None,
    ) -> str:
        """Log a folder of results that is no run's, such as a comparison's, as a finished MLflow run; return its id."""
        from mlflow.entities import Metric

        experiment_id, _ = self.experiment(experiment)
        run_id = str(self.client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)
        now = round(time.time() * 1000)
        self.log(run_id, params=params, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
        self.client.log_artifacts(run_id, str(folder))
        self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def log_curves(self, run_id: str, folder: Path) -> None:
        """Send the points of the training curves that were not sent yet; those that MLflow has are not doubled."""
        from mlflow.entities import Metric

        path = folder / HISTORY
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8").splitlines()
        sent = self._sent.get(run_id, 0)
        points: list[Any] = []
        for line in lines[sent if sent <= len(lines) else 0 :]:
            try:
                values = json.loads(line)
                step, timestamp = int(values.pop("step")), int(values.pop("time"))
            except (ValueError, KeyError):
                continue  # the last line of a killed run may be cut
            points += [Metric(name, float(value), timestamp, step) for name, value in values.items()]
        self.log(run_id, metrics=points)
        self._sent[run_id] = len(lines)


def noted_run(folder: Path, key: str) -> tuple[str | None, str]:
    """Return the MLflow run of a folder in the store and experiment of a key, and the state that MLflow has of it."""
    note = (read_json(folder / record.TRACKING) or {}).get("stores", {}).get(key, {})
    return note.get("run_id"), str(note.get("told", ""))


def _note(folder: Path, key: str, run_id: str, told: str, experiment: str) -> None:
    before = read_json(folder / record.TRACKING) or {}
    stores = {**before.get("stores", {}), key: {"run_id": run_id, "told": told}}
    complete = told.startswith("finished")
    record.write_json(
        folder / record.TRACKING,
        {"run_id": run_id, "complete": complete, "experiment": experiment, "stores": stores},
    )


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is a sweep's."""
    return (folder / SWEEP).is_file()


def mirror(folder: Path, store: Store, *, ended: bool = False) -> str | None:
    """Bring the MLflow run of a run's or a sweep's folder up to date; a job's sweep comes first.

    With ``ended`` a folder that says that it runs, though its process is gone, counts as killed.

    Returns:
        The id of the MLflow run; None for a run that has not found out yet whether it has to do anything.

    Raises:
        AgnewsError: The record is damaged.
        MlflowException: The store does not answer, or refuses.
    """
    if is_sweep(folder):
        return _mirror_sweep(folder, store, ended=ended)
    run = RunFolder(folder)
    state = run_state(folder, ended=ended)
    if state is None:
        return None
    plain = run.config()
    experiment = str(plain["tracking"]["experiment"])
    experiment_id, key = store.experiment(experiment)
    run_id, told = noted_run(folder, key)
    if run_id is not None and told == str(state) and state.status != "running":
        return run_id
    result = run.needed_result() if state.status == "finished" else None
    environment = read_json(folder / record.ENVIRONMENT) or {}
    if run_id is None:
        tags = _sweep_tags(folder, store) | {"mlflow.source.name": str(environment.get("command", ["run.py"])[0])}
        name = unique_name(folder, str(plain["name"]))
        run_id = _find_or_create(store, experiment_id, folder, name, state, tags)
        store.log(run_id, params=_params(plain, environment), tags=_start_tags(plain, environment, folder, store))
    elif not told.startswith("running") and state.status == "running":
        store.client.update_run(run_id, status="RUNNING")  # it goes on where it was interrupted
    if told != str(state):
        _note(folder, key, run_id, f"begun {state.since}", experiment)
    store.log_curves(run_id, folder)
    if result is not None:
        _log_result(run_id, folder, result, state, store)
    elif state.status != "running":
        _log_end(run_id, plain, state, store)
    if state.status != "running":
        store.client.set_terminated(run_id, _ENDS[state.status], state.ended_ms)
    if told != str(state):
        _note(folder, key, run_id, str(state), experiment)
    store.progress()
    return run_id


def run_state(folder: Path, *, ended: bool) -> State | None:
    """Return how far a run has come; with ``ended`` one that says that it runs, though its process is gone, was killed.

    It is None where no run has begun its work: a new folder may be one whose result is there already.
    """
    content = read_json(folder / record.STATUS) or {}
    status, since = content.get("status"), str(content.get("updated"))
    if status not in _ENDS or (status == "running" and "fingerprint" not in content and not ended):
        return None
    reason = content.get("reason")
    job = read_json(folder.parent / "jobs" / f"{folder.name}.json") or {}
    if status == "failed" and job.get("status") == "killed":
        status, reason = "killed", job.get("reason") or reason
    if status == "running" and ended:
        environment = read_json(folder / record.ENVIRONMENT) or {}
        here = environment.get("hostname") == platform.node()
        if here and is_gone(int(content.get("pid", 0)), (milliseconds(since) or 0) / 1000, content.get("born")):
            status, reason = "killed", "the process is gone"
    return State(status, since, milliseconds(content.get("started")), reason, content.get("pruned"))


def _find_or_create(
    store: Store, experiment_id: str, folder: Path, name: str, state: State, tags: Mapping[str, str]
) -> str:
    """Return the folder's MLflow run, which an interrupted attempt may have made without a note, or a new one."""
    identity = hashlib.sha256(f"{folder.parent.name}/{folder.name} {state.started_ms}".encode()).hexdigest()[:32]
    found = store.client.search_runs([experiment_id], f"tags.record = '{identity}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    user: dict[str, str] = {}
    with suppress(Exception):  # a container may have no name for its user
        user = {"mlflow.user": getpass.getuser()}
    made = store.client.create_run(
        experiment_id,
        start_time=state.started_ms,
        run_name=name,
        tags={**user, "mlflow.source.type": "LOCAL", **tags, "record": identity},
    )
    store.progress()
    return str(made.info.run_id)


def unique_name(folder: Path, name: str) -> str:
    """Return a run's sayable name, which no other run has: ``linear_svc-hybrid_tfidf-7f3a``, or ``sweep/12``."""
    if is_sweep(folder.parent):
        return f"{folder.parent.name}/{folder.name}"
    return f"{name}-{folder.name.rpartition('-')[2][-4:]}"


def _place(folder: Path, store: Store) -> str:
    """Return where a folder lies within the outputs, so that the name holds when the project moves."""
    with suppress(ValueError):
        return folder.resolve().relative_to(store.output_dir.resolve()).as_posix()
    return str(folder)


def _sweep_tags(folder: Path, store: Store) -> dict[str, str]:
    """Return the tags that nest a job's run below its sweep's; empty for a run that is no job."""
    sweep = folder.parent
    if not is_sweep(sweep):
        return {}
    parent = _mirror_sweep(sweep, store, ended=False, begin_only=True)
    return {"mlflow.parentRunId": parent, "sweep": sweep.name, "sweep.job": folder.name}


def _params(plain: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that people compare runs by: the choices, the command's overrides, and the model's own."""
    untrained = plain["model"]["family"] in ("classical", "answers")
    numbers = [*record.NUMBERS, *(["subset_seed"] if plain.get("subset_seed") is not None else [])]
    flat = flatten({key: plain[key] for key in (*numbers, *_GROUPS)})
    chosen = [*numbers, *(f"{group}.name" for group in _GROUPS)]
    words = [word.lstrip("+~").partition("=")[0] for word in environment.get("command", [])[1:] if "=" in word]
    given = [key for key in flat if any(key == word or key.startswith(f"{word}.") for word in words if "." in word)]
    own = [key for key, value in flat.items() if key.startswith("model.") and value != "None" and "_target_" not in key]
    own += [f"trainer.{key}" for key in _TRAINER if not untrained or key == "n_jobs"]
    names = list(dict.fromkeys(key for key in [*chosen, *given] if key in flat))
    names += [key for key in own if key in flat and key not in names][: max(0, N_PARAMS - len(names))]
    return {key.removesuffix(".name"): flat[key] for key in names}  # the choice of a group goes by the group's name


def _start_tags(plain: Mapping[str, Any], environment: Mapping[str, Any], folder: Path, store: Store) -> dict[str, str]:
    git = environment.get("git") or {}
    hardware = f"{environment.get('cpu')}, {environment.get('cpu_cores')} cores, {environment.get('memory_gb')} GB"
    return {str(key): str(value) for key, value in plain["tags"].items()} | {
        "model": str(plain["model"]["name"]),
        "features": str(plain["features"]["name"]),
        "family": str(plain["model"]["family"]),
        "data": str(plain["data"]["name"]),
        "git.commit": str(git.get("commit")),
        "git.dirty": str(git.get("dirty")),
        "host": str(environment.get("hostname")),
        "hardware": hardware,
        "python": str(environment.get("python")),
        "agnews_exp": str(environment.get("agnews_exp")),
        "run_folder": _place(folder, store),
        "pid": str(environment.get("pid")),
        "born": str(environment.get("born")),
    }


def tracked(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a result that MLflow gets, the primary metric first."""
    from agnews_exp.evaluation.metrics import tracked_metrics
    from agnews_exp.evaluation.tasks import task_of_record

    numbers, primary = result["metrics"], result["primary"]
    kept = {primary: numbers[primary]} if primary in numbers else {}
    kept |= tracked_metrics(numbers, _own(result), task_of_record(result)) | {
        "time/fit": result["timings"].get("fit", math.nan)
    }
    return {name: float(value) for name, value in kept.items() if math.isfinite(value)}


def _own(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the user's own metrics in a record."""
    return list(result.get("own_metrics") or {})


def _log_result(run_id: str, folder: Path, result: Mapping[str, Any], state: State, store: Store) -> None:
    """Log a finished record: model, metrics, tags, data, files, and a note with the headline table.

    The model comes first, so that the metrics can be logged as the run's and the model's in one go; one that cannot be
    logged does not keep the rest from MLflow.
    """
    from mlflow.entities import Metric

    from agnews_exp.evaluation.metrics import headline
    from agnews_exp.evaluation.tasks import task_of_record

    model_id: str | None = None
    failure: Exception | None = None
    if store.with_models and (folder / record.MODEL).is_dir():
        try:
            model_id = _log_model(run_id, folder / record.MODEL, tuple(result["class_names"]), store)
        except Exception as error:
            check_terminated()
            failure = error
    when, data = state.ended_ms, result["data"]
    metrics = [Metric(name, value, when, 0, model_id) for name, value in tracked(result).items()]
    for name, per_fold in result.get("folds", {}).items():
        if name in headline(_own(result), task_of_record(result)):
            metrics += [Metric(f"cv_fold/{name}", float(v), when, fold) for fold, v in enumerate(per_fold)]
    tags = {
        "fingerprint": str(result["fingerprint"]),
        "data.source": str(data["source"]),
        "data.checksum": str(data["checksum"]),
        "data.evaluation_checksum": str(data["evaluation_checksum"]),
        "mlflow.note.content": headline_note(result),
    }
    store.log(run_id, metrics=metrics, tags=tags)
    _log_dataset(run_id, data, store)
    for name in (record.CONFIG, record.ENVIRONMENT, record.RESULT, record.REPORT, record.PREDICTIONS, HISTORY):
        if (folder / name).is_file():
            store.client.log_artifact(run_id, str(folder / name))
    for name in (record.FIGURES, record.ANALYSES):
        if (folder / name).is_dir():
            store.client.log_artifacts(run_id, str(folder / name), name)
    store.progress()
    if failure is not None:
        raise failure


def _log_end(run_id: str, plain: Mapping[str, Any], state: State, store: Store) -> None:
    """Say why a run ended without a result, as a tag and as its note."""
    from mlflow.entities import Metric

    reason = str(state.reason or "")
    tags = {"reason": reason.splitlines()[0] if reason else state.status}
    tags["mlflow.note.content"] = f"**{state.status}**\n\n```\n{reason[:4000]}\n```" if reason else state.status
    metrics = []
    if state.pruned is not None:
        step, value = int(state.pruned["step"]), float(state.pruned["value"])
        tags |= {"pruned": "true", "pruned.step": str(step)}
        primary = str(plain["evaluation"]["primary"]).replace("/", "_")
        metrics = [Metric(f"pruned/{primary}", value, state.ended_ms, step)]
    store.log(run_id, tags=tags, metrics=metrics)


def headline_note(result: Mapping[str, Any]) -> str:
    """Return the Markdown that the MLflow UI shows at the top of a run."""
    from agnews_exp.evaluation.metrics import headline
    from agnews_exp.evaluation.tasks import task_of_record

    data, metrics = result["data"], result["metrics"]
    rows = data["rows"]
    splits = {split: title for split, title in (("val", "validation"), ("test", "test")) if split in rows}
    table = [
        [name, *(f"{metrics[f'{split}/{name}']:.4f}" for split in splits)]
        for name in headline(_own(result), task_of_record(result))
        if f"val/{name}" in metrics
    ]
    tested = f"{rows['test']:,} test rows" if "test" in rows else "test rows not scored"
    said = (
        f"{data['source']}, {rows['train']:,} training, {rows['val']:,} validation, {tested}; "
        f"seed {result['seed']}, split seed {result['split_seed']}."
    )
    return f"{markdown_table(['', *splits.values()], table)}\n\n{markdown_cell(said)}"


def _log_dataset(run_id: str, data: Mapping[str, Any], store: Store) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

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
            store.client.log_inputs(run_id, inputs)
        except MlflowException as error:
            # Runs that log the same new data set at once: MLflow looks for it, finds none, and all but one fail.
            if left == 0 or not any(word in str(error) for word in ("duplicate key", "UNIQUE constraint")):
                raise
            time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
        else:
            return


def _log_model(run_id: str, folder: Path, class_names: tuple[str, ...], store: Store) -> str:
    """Log the saved model, unless an interrupted attempt has logged it; return the logged model's id."""
    import mlflow

    from agnews_exp.tracking.logged_model import log_saved

    run = store.client.get_run(run_id)
    if run.outputs is not None and run.outputs.model_outputs:
        return str(run.outputs.model_outputs[-1].model_id)
    mlflow.set_experiment(experiment_id=run.info.experiment_id)  # where MLflow puts a model, whatever its run's is
    made = log_saved(run_id, folder, class_names, _EXAMPLE_TEXTS)
    store.progress()
    return made


def _mirror_sweep(folder: Path, store: Store, *, ended: bool, begin_only: bool = False) -> str:
    """Bring the MLflow run of a sweep's folder up to date, or with ``begin_only`` just make it; return its id."""
    info = read_json(folder / SWEEP) or {}
    own = info.get("tracking", {})
    experiment = str(own.get("experiment") or store.default)
    experiment_id, key = store.experiment(experiment)
    run_id, told = noted_run(folder, key)
    if begin_only and run_id is not None:
        return run_id
    status = str(info.get("status"))
    status = status if status in _ENDS else "killed"
    since = str(info.get("resumed" if status == "running" else "ended") or info.get("created"))
    if status == "running" and ended and _sweep_is_gone(info, own):
        status = "killed"
    state = State(status, since, milliseconds(info.get("created")))
    if run_id is None:
        tags = {"mlflow.source.name": str(info.get("command", "")).split(" -m")[0]}
        run_id = _find_or_create(store, experiment_id, folder, folder.name, state, tags)
        told = ""
    if told != str(state):
        tags = {"sweep": folder.name, "kind": "sweep", "run_folder": _place(folder, store), **own.get("tags", {})}
        tags |= {"host": str(own.get("host")), "pid": str(own.get("pid")), "born": str(own.get("born"))}
        tags |= {"resumed": str(milliseconds(since) or "")}
        store.log(run_id, tags=tags)
        _log_sweep_results(run_id, folder, info, state, store)
        if status == "running":
            store.client.update_run(run_id, status="RUNNING")
        else:
            _mirror_reused(folder, run_id, store, experiment_id)
            store.client.set_terminated(run_id, _ENDS[status], state.ended_ms)
        _note(folder, key, run_id, str(state), experiment)
        store.progress()
    return run_id


def _log_sweep_results(run_id: str, folder: Path, info: Mapping[str, Any], state: State, store: Store) -> None:
    """Log a sweep's table, numbers and files; the best value also under the name that the jobs have it under."""
    from mlflow.entities import Metric

    results = read_json(folder / SWEEP_RESULTS)
    if results is None or state.status == "running":
        return
    numbers = {str(name): float(value) for name, value in results["metrics"].items()}
    if "best_objective" in numbers and info.get("primary"):
        numbers[str(info["primary"])] = numbers["best_objective"]
    metrics = [Metric(name, value, state.ended_ms, 0) for name, value in numbers.items() if math.isfinite(value)]
    store.log(run_id, metrics=metrics)
    store.client.set_tag(run_id, "mlflow.note.content", str(results["note"])[:60_000])
    for path in (folder / name for name in results["artifacts"]):
        if path.is_dir():
            store.client.log_artifacts(run_id, str(path), path.name)
        elif path.is_file():
            store.client.log_artifact(run_id, str(path))


def _mirror_reused(sweep: Path, parent: str, store: Store, experiment_id: str) -> None:
    """Let jobs whose result an earlier run had appear below their sweep: that run's numbers, and where it is."""
    from mlflow.entities import Metric

    for path in sorted((sweep / "jobs").glob("*.json")):
        job = read_json(path) or {}
        num, place = path.stem, job.get("run")
        if not num.isdigit() or job.get("status") != "finished" or place in (None, num):
            continue
        run = RunFolder(Path(os.path.normpath(sweep / str(place))))
        result = run.result()
        if result is None:
            continue
        state = run_state(run.path, ended=True)
        assert state is not None, "it has a result"
        tags = {
            "mlflow.parentRunId": parent, "sweep": sweep.name, "sweep.job": num, "reused": _place(run.path, store),
            "mlflow.note.content": headline_note(result),
        }  # fmt: skip
        run_id = _find_or_create(store, experiment_id, sweep / num, f"{sweep.name}/{num}", state, tags)
        environment = read_json(run.path / record.ENVIRONMENT) or {}
        metrics = [Metric(name, value, state.ended_ms, 0) for name, value in tracked(result).items()]
        store.log(run_id, params=_params(run.config(), environment), metrics=metrics)
        store.client.set_terminated(run_id, "FINISHED", state.ended_ms)


def mlflow_run_of(plain: Mapping[str, Any], folder: Path) -> tuple[Any, str]:
    """Return an MLflow client of the configured store, and the id of a finished run's mirror there.

    Raises:
        AgnewsError: The run is not completely in that store.
    """
    store = Store(plain)
    experiment = (read_json(folder / record.TRACKING) or {}).get("experiment")
    _, key = store.experiment(experiment)
    run_id, told = noted_run(folder, key)
    if run_id is None or not told.startswith("finished"):
        raise AgnewsError(f"{folder.name} is not completely in MLflow.", fix="agnews sync")
    return store.client, run_id


@contextmanager
def watched(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a folder for the only process that mirrors it; yields whether nobody else does.

    With ``wait`` it waits for the last look of a worker whose run has ended or was killed.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + (_LAST_LOOK_SECONDS if wait else 0)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.2)
            else:
                yield True
                return
    finally:
        os.close(descriptor)


def _at_work(root: Path) -> bool:
    """Return whether somebody works in a run's or a sweep's folder, as far as this machine can see."""
    if not is_sweep(root):
        state = run_state(root, ended=True)
        return state is not None and state.status == "running"
    info = read_json(root / SWEEP) or {}
    own = info.get("tracking", {})
    return info.get("status") == "running" and not _sweep_is_gone(info, own)


def _sweep_is_gone(info: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Return whether a sweep that says that it runs was this machine's and its process is gone."""
    started = (milliseconds(info.get("resumed") or info.get("created")) or 0) / 1000 + 1
    return own.get("host") == platform.node() and is_gone(int(own.get("pid", 0)), started, own.get("born"))


def sync_runs(plain: Mapping[str, Any]) -> tuple[int, int]:
    """Mirror every folder that the store does not have as it is now; return how many were, and how many could not be.

    Raises:
        MlflowException: The store itself cannot be reached.
    """
    store = Store(plain)
    store.connect()
    done = failed = 0
    for root in sorted(_roots(store.output_dir)):
        with watched(root, wait=not _at_work(root)) as free:
            if not free:  # a worker is at it
                continue
            jobs = sorted(path.parent for path in root.glob(f"*/{record.STATUS}")) if is_sweep(root) else [root]
            for folder in [root, *jobs] if is_sweep(root) else jobs:
                try:
                    done += _sync(folder, store)
                except Exception as error:
                    check_terminated()
                    log.warning("%s: %s", folder.name, first_line(error))
                    failed += 1
    close_stale_runs(store)
    return done, failed


def _sync(folder: Path, store: Store) -> int:
    """Mirror a folder; return 1 where that is a run that MLflow did not have as it is now."""
    if is_sweep(folder):
        mirror(folder, store, ended=True)
        return 0
    state = run_state(folder, ended=True)
    if state is None or state.status == "running":
        return 0
    if state.status != "finished" and "fingerprint" not in (read_json(folder / record.STATUS) or {}):
        return 0  # it never began its work
    experiment = str(RunFolder(folder).config()["tracking"]["experiment"])
    known = noted_run(folder, store.experiment(experiment)[1])[1] == str(state)
    mirror(folder, store, ended=True)
    return 0 if known else 1


def _roots(output_dir: Path) -> list[Path]:
    """Return all folders of runs and of sweeps."""
    runs = [path.parent for path in output_dir.glob(f"runs/*/{record.STATUS}")]
    return runs + [path.parent for path in output_dir.glob(f"sweeps/*/{SWEEP}")]


def close_stale_runs(store: Store) -> int:
    """Mark runs KILLED that say RUNNING though their process on this machine is gone; return how many.

    These are runs whose folder is gone as well; of all others the folder says how they ended.
    """
    closed = 0
    everywhere = [found.experiment_id for found in store.client.search_experiments()]
    for run in store.client.search_runs(everywhere, "attributes.status = 'RUNNING'", max_results=1000):
        tags = run.data.tags
        ours = "run_folder" in tags and tags.get("host") == platform.node()
        if not ours or not tags.get("pid", "").isdigit():
            continue
        # A sweep that goes on is older than the process that works on it now.
        started = int(tags.get("resumed") or run.info.start_time) / 1000
        if is_gone(int(tags["pid"]), started, tags.get("born")):
            store.client.set_terminated(run.info.run_id, "KILLED")
            closed += 1
    return closed


def milliseconds(text: object) -> int | None:
    """Return milliseconds since the epoch of an ISO 8601 time, or None for anything else."""
    with suppress(ValueError, TypeError, OverflowError):
        return int(datetime.fromisoformat(str(text)).timestamp() * 1000)
    return None

"""Finding finished runs by what people have at hand: a folder, a name, an MLflow id, an MLflow filter."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import AgnewsError, ConfigError
from agnews_exp.core.paths import CHECKPOINT_LOCK, CHECKPOINTS, RESUME_FILE
from agnews_exp.core.suggestions import nearest
from agnews_exp.runners.protocol import SourceRun
from agnews_exp.tracking import record
from agnews_exp.tracking.record import MODEL, PREDICTIONS, STATUS, RunFolder, finished_runs
from agnews_exp.tracking.store import is_local, tracking_uri

log = logging.getLogger(__name__)


def find_unfinished(output_dir: Path, fingerprint: str, own: Path) -> Path | None:
    """Return the run folder with the newest checkpoints of a fingerprint that nobody works on, or None.

    Args:
        output_dir: Where runs/ and sweeps/ lie.
        fingerprint: What the run is.
        own: The present run's folder; with ``hydra.run.dir`` fixed it may be the one to go on in.
    """
    patterns = (f"runs/*/{CHECKPOINTS}/{RESUME_FILE}", f"sweeps/*/*/{CHECKPOINTS}/{RESUME_FILE}")
    candidates = {path for pattern in patterns for path in output_dir.glob(pattern)}
    candidates.add(own / CHECKPOINTS / RESUME_FILE)
    found: list[tuple[float, Path]] = []
    for path in candidates:
        content = record.read_json(path)
        if content is None or content.get("fingerprint") != fingerprint:
            continue
        states = [path.parent / name for name in ("last.ckpt", "done.json")]
        times = [state.stat().st_mtime for state in states if state.is_file()]
        folder = path.parent.parent
        if times and record.RunFolder(folder).status != "finished" and not _is_at_work(path.parent):
            found.append((max(times), folder))
    return max(found)[1] if found else None


def _is_at_work(checkpoints: Path) -> bool:
    """Return whether a living process holds the folder's lock (the system drops the locks of dead ones)."""
    from filelock import FileLock, Timeout

    lock = FileLock(checkpoints / CHECKPOINT_LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def continue_in(folder: record.RunFolder, earlier: Path) -> None:
    """Make an earlier run's folder this run's folder: the log goes on there, the new, empty folder goes.

    Args:
        folder: This run's folder; points to the earlier one afterwards.
        earlier: From :func:`find_unfinished`.
    """
    fresh = folder.path
    if fresh.resolve() == earlier.resolve():
        return
    _move_log(fresh, earlier)
    folder.path = earlier
    shutil.rmtree(fresh, ignore_errors=True)


def _move_log(fresh: Path, earlier: Path) -> None:
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        path = Path(handler.baseFilename)
        if path.parent.resolve() != fresh.resolve():
            continue
        moved = logging.FileHandler(earlier / path.name, mode="a")
        moved.setFormatter(handler.formatter)
        moved.setLevel(handler.level)
        root.removeHandler(handler)
        handler.close()
        root.addHandler(moved)


_FILTER = re.compile(r"\b(metrics|params|tags|attributes)\.")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,}")


def find_runs(plain: Mapping[str, Any], words: list[str]) -> list[RunFolder]:
    """Return the finished runs that the words name, in their order, each once.

    Args:
        plain: The resolved config: ``paths`` and ``tracking`` say where to look.
        words: Run folders, folder names (or unique beginnings, or the last six characters), run names or the first
            eight characters or more of fingerprints (the newest run of those), MLflow run ids, or MLflow filter strings
            such as ``params.model = 'logreg'``.

    Raises:
        ConfigError: A word names no finished run, or several.
        StorageError: It names a run whose record is damaged.
    """
    output_dir = Path(plain["paths"]["output_dir"])
    found: dict[Path, RunFolder] = {}
    for word in words:
        folders = _by_filter(plain, word) if _FILTER.search(word) else [_one(plain, output_dir, word)]
        for folder in folders:
            found.setdefault(folder.path.resolve(), folder)
    return list(found.values())


def source_runs(plain: Mapping[str, Any]) -> dict[str, SourceRun]:
    """Return the finished runs that the configuration of a cascade or a student names, by key; none for other models.

    Raises:
        ConfigError: A run is not named, not found, or has no model any more.
    """
    found = {}
    for key in _source_keys(plain["model"]):
        word = plain["model"].get(key)
        if not word:
            name = plain["model"]["name"]
            raise ConfigError(f"model={name} needs model.{key}, a finished run.", fix="agnews top lists them")
        (folder, *more) = find_runs(plain, [str(word)])
        if more:
            raise ConfigError(f"model.{key}={word} means {len(more) + 1} runs; one is needed.")
        result = folder.result() or {}
        if not (folder.path / MODEL).is_dir():
            raise ConfigError(f"model.{key}={word}: {folder.path} has no model folder.", fix="train it with force=true")
        found[key] = SourceRun(
            name=str(result["name"]),
            fingerprint=str(result["fingerprint"]),
            model=folder.path / MODEL,
            predictions=folder.path / PREDICTIONS,
            evaluation_checksum=str(result["data"]["evaluation_checksum"]),
            class_names=tuple(result["class_names"]),
            data_fraction=float(result["data_fraction"]),
            metrics=result["metrics"],
        )
    return found


def _source_keys(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which keys of a model's configuration must name a run; a student that learns from labels needs none."""
    if model["family"] == "cascade":
        return ("fast", "accurate")
    return ("teacher",) if "teacher" in model and (model["teacher"] or model["alpha"] > 0) else ()


def _one(plain: Mapping[str, Any], output_dir: Path, word: str) -> RunFolder:
    place = next((path for path in (Path(word), output_dir / word) if (path / STATUS).is_file()), None)
    if place is None and Path(word).is_dir():
        place = Path(word)
    if place is not None:
        folder = RunFolder(place)
        folder.needed_result()
        return folder
    runs = list(finished_runs(output_dir))
    by_folder = [run for run in runs if run.path.name.startswith(word) or run.path.name.endswith(f"-{word}")]
    if len(by_folder) == 1:
        by_folder[0].needed_result()
        return by_folder[0]
    if len(by_folder) > 1:
        names = ", ".join(run.path.name for run in by_folder[:5])
        raise ConfigError(f"'{word}' is the beginning of {len(by_folder)} run folders: {names}", fix="give more of it")
    results = [(run, run.result() or {}) for run in runs]
    by_name = {str(result.get("name")): run for run, result in results}  # the newest of a name stays
    if word in by_name:
        return by_name[word]
    if _FINGERPRINT.fullmatch(word):
        same = {str(f): run for run, result in results if (f := result.get("fingerprint", "")).startswith(word)}
        if len(same) > 1:
            raise ConfigError(f"'{word}' is the beginning of {len(same)} fingerprints.", fix="give more of it")
        if same:
            return next(iter(same.values()))
    if re.fullmatch(r"[0-9a-f]{32}", word):
        return _by_id(plain, word)
    guess = nearest(word, [*by_name, *(run.path.name for run in runs)])
    raise ConfigError(
        f"No finished run is called '{word}'." + (f" Did you mean '{guess}'?" if guess else ""),
        fix="give a run folder or its name, a run's name, an MLflow id, or a filter: \"params.model = 'logreg'\"",
    )


def _client(plain: Mapping[str, Any]) -> Any:
    from mlflow.tracking import MlflowClient

    uri = tracking_uri(Path(plain["paths"]["mlruns_dir"]), plain["tracking"]["uri"])
    if is_local(uri) and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise AgnewsError(f"There is no MLflow store at {uri}.", fix="agnews sync")
    return MlflowClient(tracking_uri=uri)


def _by_id(plain: Mapping[str, Any], run_id: str) -> RunFolder:
    from mlflow.exceptions import MlflowException

    try:
        run = _client(plain).get_run(run_id)
    except MlflowException as error:
        raise ConfigError(f"MLflow has no run {run_id}.") from error
    return _local_folder(run)


def _by_filter(plain: Mapping[str, Any], query: str) -> list[RunFolder]:
    from mlflow.exceptions import MlflowException

    client = _client(plain)
    experiment = client.get_experiment_by_name(plain["tracking"]["experiment"])
    if experiment is None:
        raise ConfigError(
            f"MLflow has no experiment '{plain['tracking']['experiment']}'.", fix="tracking.experiment=<name>"
        )
    try:
        runs = client.search_runs([experiment.experiment_id], query, max_results=200)
    except MlflowException as error:
        raise ConfigError(f"MLflow cannot read the filter {query!r}: {str(error).splitlines()[0]}") from error
    folders = [_local_folder(run) for run in runs if "run_folder" in run.data.tags and run.info.status == "FINISHED"]
    finished = [folder for folder in folders if folder.result() is not None]
    if not finished:
        raise ConfigError(f"No finished run answers the filter {query!r}.")
    return finished


def _local_folder(run: Any) -> RunFolder:
    path = Path(run.data.tags.get("run_folder", ""))
    folder = RunFolder(path)
    if not path.is_dir():
        raise ConfigError(f"The record of MLflow run {run.info.run_id} is not on this machine: {path}")
    return folder


def short_name(run: RunFolder, output_dir: Path) -> str:
    """Return the shortest word that finds a run again: six characters, or ``sweeps/<sweep>/<job>``."""
    if run.path.parent.name == "runs":
        return run.path.name.rpartition("-")[2]
    return run.path.relative_to(output_dir).as_posix() if run.path.is_relative_to(output_dir) else str(run.path)

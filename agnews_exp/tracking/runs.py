"""Runs as people have them at hand: one handle of a finished run, and finding it by a name, a folder, or an id."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp.core.errors import ConfigError, DataError, first_line
from agnews_exp.core.paths import CHECKPOINT_LOCK, CHECKPOINTS, RESUME_FILE, run_command
from agnews_exp.core.suggestions import nearest
from agnews_exp.core.text import visible
from agnews_exp.models.answers import SourceRun, TextClassifier
from agnews_exp.tracking import record
from agnews_exp.tracking.mlflow_mirror import is_sweep, unique_name
from agnews_exp.tracking.record import PREDICTIONS, STATUS, RunFolder, finished_runs, missing_key, read_json

if TYPE_CHECKING:
    import pandas

_FILTER = re.compile(r"\b(metrics|params|tags|attributes)\.")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,}")
_ENDING = re.compile(r"[0-9a-f]{4,6}")
_ID = re.compile(r"[0-9a-f]{32}")
_NEEDED = ("name", "metrics")
_MOST_LISTED = 20
_LONGEST_SWEEP = 16


class Run:
    """A run's folder, read as it is asked for; what has been read once is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = RunFolder(folder)

    @property
    def status(self) -> str:
        """running, finished, failed, killed, pruned, or unknown."""
        return self.record.status

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
            ConfigError: The run has not finished.
            StorageError: Its record is damaged.
        """
        return self.record.needed_result(*_NEEDED)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain values.

        Raises:
            StorageError: It is damaged.
        """
        return self.record.config()

    @property
    def given_name(self) -> str:
        """The run's name in its configuration, which others may have, too."""
        return str(self.result["name"])

    @property
    def name(self) -> str:
        """The run's sayable name, which no other run has: ``linear_svc-hybrid_tfidf-7f3a``, or ``sweep/12``."""
        return unique_name(self.folder, self.given_name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that the run goes by: those under which it was asked for, and the sayable ones made of them."""
        asked = [self.given_name, *self.record.names]
        return tuple(dict.fromkeys([self.name, *asked, *(unique_name(self.folder, name) for name in asked)]))

    @cached_property
    def when(self) -> datetime:
        """When the run ended."""
        return self.record.ended

    def predictions(self, split: str | None = None) -> pandas.DataFrame:
        """Return the stored answers as a table: split, row_id, label and prediction (class names), probabilities.

        Raises:
            DataError: The run has no answers for that split.
            StorageError: The file is damaged.
        """
        from agnews_exp.evaluation.stored_answers import label_columns, read_table
        from agnews_exp.evaluation.tasks import task_of

        names = tuple(self.result["class_names"])
        stored = read_table(self.folder / PREDICTIONS, len(names))
        table: pandas.DataFrame = stored.to_pandas()
        for column in ("label", "prediction"):
            labels = label_columns(stored, column, names)
            table[column] = task_of(labels).names(labels, names)
        table["split"] = table["split"].astype(str)
        if split is None:
            return table
        if split not in set(table["split"]):
            there = ", ".join(dict.fromkeys(table["split"]))
            raise DataError(f"{self.name} has no answers for split '{split}'.\n  allowed: {there}")
        return table.loc[table["split"] == split].reset_index(drop=True)

    def model(self, device: str = "auto") -> TextClassifier:
        """Load the fitted model, which then answers texts as a fitted estimator of scikit-learn does.

        Raises:
            ConfigError: The run has no model folder.
        """
        from agnews_exp.models.loading import load_model

        return TextClassifier(load_model(self.record.model, device))

    def _repr_html_(self) -> str:
        """Return the run's name and its headline numbers as HTML, for a notebook."""
        from agnews_exp.evaluation.metrics import headline
        from agnews_exp.evaluation.tasks import task_of_record

        metrics, rows = self.result["metrics"], self.result["data"]["rows"]
        shown = headline(list(self.result.get("own_metrics") or {}), task_of_record(self.result))
        names = [name for name in shown if f"val/{name}" in metrics]
        lines = ["".join(f"<th>{escape(word)}</th>" for word in ("metric", *rows))]
        for name in names:
            values = (metrics.get(f"{split}/{name}") for split in rows)
            cells = "".join("<td></td>" if value is None else f"<td>{value:.4f}</td>" for value in values)
            lines.append(f"<td>{escape(name)}</td>{cells}")
        return f"<b>{escape(self.name)}</b><table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

    def __repr__(self) -> str:
        """Return what :meth:`__str__` does."""
        return str(self)

    def __str__(self) -> str:
        """Return the run's name, when it ended, and its score, for a list to choose from, within 80 columns."""
        primary = str(self.result.get("primary", "val/macro_f1"))
        score = self.result["metrics"].get(primary)
        words = [self.name, f"{self.when.astimezone():%Y-%m-%d %H:%M}"]
        return "  ".join([*words, *([] if score is None else [f"{primary} {score:.4f}"])])


def runs(plain: Mapping[str, Any], where: str | None = None) -> list[Run]:
    """Return the finished runs, or those that answer an MLflow filter, those that ended first standing first.

    Raises:
        ConfigError: MLflow cannot read the filter, or no finished run answers it.
    """
    if where is not None:
        return _by_filter(plain, where)
    found = []
    for folder in finished_runs(Path(plain["paths"]["output_dir"])):
        content = folder.result()
        if content is not None and missing_key(content, _NEEDED) is None:
            found.append(run := Run(folder.path))
            run.result = content  # read and checked: once is enough
    return found


def find(plain: Mapping[str, Any], word: str) -> Run:
    """Return the one finished run that a word means.

    A word is a run's folder; its name, or one of several runs' that all have its fingerprint; the beginning of its name
    or of its folder's name; ``latest``; ``<sweep>/<job>``; the first eight characters or more of its fingerprint; or
    its MLflow id.

    Raises:
        ConfigError: It means no finished run, or several, which are listed.
        StorageError: It means a run whose record is damaged.
    """
    output_dir = Path(plain["paths"]["output_dir"])
    if (place := place_of(output_dir, word)) is not None:
        named = Run(place)
        named.record.needed_result()
        return named
    known = runs(plain)
    if word == "latest" and known:
        return known[-1]
    if _ID.fullmatch(word) and (by_id := _by_id(known, word)) is not None:
        return by_id
    prints = {run.folder: str(run.result.get("fingerprint", run.folder)) for run in known}
    ways = (
        [run for run in known if word in (run.name, run.folder.name)],
        [run for run in known if word in run.names],
        [run for run in known if run.folder.name.startswith(word) or _ends(run.folder, word)],
        [run for run in known if any(name.startswith(word) for name in run.names if not _is_job(name))],
        [run for run in known if _FINGERPRINT.fullmatch(word) and prints[run.folder].startswith(word)],
    )
    for found in ways:
        if found and len({prints[run.folder] for run in found}) == 1:
            return found[-1]  # the last of several that are one and the same
        if found:
            raise ConfigError(f"'{word}' fits {len(found)} runs:\n{_listed(found)}", fix="give one's whole name")
    for folder in finished_runs(output_dir):
        if folder.path.name.startswith(word) or _ends(folder.path, word):
            folder.needed_result()  # says how it is damaged
    if not known:
        first = f"{run_command()} experiment=quickstart"
        raise ConfigError(f"'{word}': there is no finished run in {output_dir} yet.", fix=first)
    guess = nearest(word, [name for run in known for name in (*run.names, run.folder.name)])
    raise ConfigError(
        f"No finished run is called '{word}'." + (f" Did you mean '{guess}'?" if guess else ""),
        fix="`agnews top` lists them; a folder, a name, latest, SWEEP/JOB, a fingerprint, an MLflow id, or an MLflow"
        " filter will do",
    )


def find_any(plain: Mapping[str, Any], word: str | None = None) -> RunFolder:
    """Return the record of the run, finished or not, that a word means as for :func:`find`; None: the last heard of.

    Raises:
        ConfigError: There is no run, or the word means none, or several.
    """
    output_dir = Path(plain["paths"]["output_dir"])
    if word and (place := place_of(output_dir, word)) is not None:
        return RunFolder(place)
    found = [*output_dir.glob(f"runs/*/{STATUS}"), *output_dir.glob(f"sweeps/*/*/{STATUS}")]
    last = sorted(found, key=lambda path: path.stat().st_mtime)
    if word in (None, "latest") and last:
        return RunFolder(last[-1].parent)
    begun = [path.parent for path in last if word and (path.parent.name.startswith(word) or _ends(path.parent, word))]
    return RunFolder(begun[0]) if len(begun) == 1 else find(plain, word or "latest").record


def _ends(folder: Path, word: str) -> bool:
    """Return whether a word is what tables call a run: the last four to six characters of its folder's name."""
    return folder.name.endswith(f"-{word}") or (_ENDING.fullmatch(word) is not None and folder.name.endswith(word))


def _is_job(name: str) -> bool:
    """Return whether a name is that of a sweep's job: ``grid/1`` is not the beginning of ``grid/12``."""
    return name.rpartition("/")[2].isdigit() and "/" in name


def _listed(found: Sequence[Run]) -> str:
    more = [f"  ... and {len(found) - _MOST_LISTED} more"] if len(found) > _MOST_LISTED else []
    return "\n".join([*(f"  {run}" for run in found[:_MOST_LISTED]), *more])


def place_of(output_dir: Path, word: str) -> Path | None:
    """Return the folder that a word names as a path, or as the job of a sweep; None where it names none."""
    for path in (Path(word).expanduser(), output_dir / word, output_dir / "runs" / word, output_dir / "sweeps" / word):
        if (path / STATUS).is_file():
            return path
    sweep, _, num = word.removeprefix("sweeps/").rpartition("/")
    if sweep and num.isdigit():
        sweeps = [path for path in output_dir.glob("sweeps/*") if is_sweep(path)]
        meant = [path for path in sweeps if path.name == sweep] or [p for p in sweeps if p.name.startswith(sweep)]
        if len(meant) > 1:
            listed = ", ".join(sorted(path.name for path in meant))
            raise ConfigError(f"'{sweep}' is the beginning of {len(meant)} sweeps: {listed}", fix="give more of it")
        job = read_json(meant[0] / "jobs" / f"{num}.json") if meant else None
        if job is not None and job.get("run") is not None:
            return Path(os.path.normpath(meant[0] / str(job["run"])))
    return Path(word) if Path(word).is_dir() else None


def _by_id(known: Iterable[Run], run_id: str) -> Run | None:
    """Return the run whose folder has noted an MLflow id; the project may have moved since."""
    for run in known:
        note = read_json(run.folder / record.TRACKING) or {}
        if run_id in (note.get("run_id"), *(told.get("run_id") for told in note.get("stores", {}).values())):
            return run
    return None


def _by_filter(plain: Mapping[str, Any], query: str) -> list[Run]:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from agnews_exp.tracking.store import existing_store

    client = MlflowClient(tracking_uri=existing_store(plain))
    try:
        stored = client.search_runs([e.experiment_id for e in client.search_experiments()], query, max_results=200)
    except MlflowException as error:
        raise ConfigError(f"MLflow cannot read the filter {query!r}: {first_line(error)}") from error
    known = runs(plain)
    found = [run for answer in stored if (run := _by_id(known, answer.info.run_id)) is not None]
    if not found:
        raise ConfigError(f"No finished run answers the filter {query!r}.")
    return sorted(found, key=lambda run: run.when)


def find_runs(plain: Mapping[str, Any], words: Iterable[str]) -> list[RunFolder]:
    """Return the records of the finished runs that a command's words name, in their order, each once, and say which.

    Raises:
        ConfigError: A word names no finished run, or several.
        StorageError: It names a run whose record is damaged.
    """
    found: dict[Path, Run] = {}
    for word in words:
        for run in _by_filter(plain, word) if _FILTER.search(word) else [find(plain, word)]:
            found.setdefault(run.folder.resolve(), run)
    _say("\n".join(f"run    {line.strip()}" for line in _listed(list(found.values())).splitlines()))
    return [run.record for run in found.values()]


def one_run(plain: Mapping[str, Any], word: str) -> RunFolder:
    """Return the record of the one finished run that a command's word names, and say which.

    Raises:
        ConfigError: It names none, or several.
    """
    found = find_runs(plain, [word])
    if len(found) > 1:
        raise ConfigError(f"{len(found)} runs answer '{word}'; one is needed.", fix="give one run's name")
    return found[0]


@cache
def _say(text: str) -> None:
    """Tell people once, beside a command's answers."""
    print(visible(text), file=sys.stderr)


def short_name(run: RunFolder, output_dir: Path) -> str:
    """Return a short word that finds a run again: six characters, or ``<sweep, or its beginning>/<job>``."""
    if run.path.parent.name == "runs":
        return run.path.name.rpartition("-")[2]
    sweeps = output_dir / "sweeps"
    if not run.path.is_relative_to(sweeps):
        return str(run.path)
    name, _, job = run.path.relative_to(sweeps).as_posix().partition("/")
    others = [path.name for path in sweeps.glob("*") if path.name != name]
    short = (name[:n] for n in range(_LONGEST_SWEEP, len(name)))
    begun = (part for part in short if not any(other.startswith(part) for other in others))
    return f"{next(begun, name)}/{job}"


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
        folder = one_run(plain, str(word))
        result = folder.needed_result()
        found[key] = SourceRun(
            name=str(result["name"]),
            fingerprint=str(result["fingerprint"]),
            model=folder.model,
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


def find_unfinished(output_dir: Path, fingerprint: str, own: Path) -> Path | None:
    """Return the run folder with the newest checkpoints of a fingerprint that nobody works on, or None."""
    patterns = (f"runs/*/{CHECKPOINTS}/{RESUME_FILE}", f"sweeps/*/*/{CHECKPOINTS}/{RESUME_FILE}")
    candidates = {path for pattern in patterns for path in output_dir.glob(pattern)}
    candidates.add(own / CHECKPOINTS / RESUME_FILE)
    found: list[tuple[float, Path]] = []
    for path in candidates:
        content = read_json(path)
        if content is None or content.get("fingerprint") != fingerprint:
            continue
        states = [path.parent / name for name in ("last.ckpt", "done.json")]
        times = [state.stat().st_mtime for state in states if state.is_file()]
        folder = path.parent.parent
        if times and RunFolder(folder).status != "finished" and not _is_at_work(path.parent):
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


def continue_in(folder: RunFolder, earlier: Path) -> None:
    """Make an earlier run's folder this run's folder: the log goes on there, the new, empty folder goes."""
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

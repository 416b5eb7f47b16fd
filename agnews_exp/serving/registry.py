"""MLflow's model registry: versions of finished runs, and a champion that only a better model replaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.performing import FinishedRun
from agnews_exp.core.errors import AgnewsError, ConfigError, DataError, first_line
from agnews_exp.evaluation.drift import REFERENCE, Shift, describe, model_reference, shifts
from agnews_exp.models.answers import FittedModel
from agnews_exp.models.persistence import add_json
from agnews_exp.serving.inputs import Source, read_items
from agnews_exp.tracking.mlflow_mirror import Store, mlflow_run_of
from agnews_exp.tracking.record import RunFolder
from agnews_exp.tracking.runs import one_run

_BATCH = 2048


def write_reference(run: FinishedRun, folder: Path) -> None:
    """Write the reference of an older run, which has none, into its model folder, and take it into the manifest."""
    splits = run.splits
    answers = run.context("drift").answers["val"]
    reference = model_reference(splits.train.texts, splits.validation.texts, answers, len(splits.class_names))
    add_json(folder, REFERENCE, reference)


def find_drift(model: FittedModel, folder: Path, source: Source) -> tuple[list[Shift], int, int]:
    """Return the shifts of a source's texts from a model's reference, and how many rows were looked at and rejected.

    Raises:
        DataError: No row of the source can be answered.
    """
    reference: dict[str, Any] = json.loads((folder / REFERENCE).read_text(encoding="utf-8"))
    known = frozenset(reference["words"])
    parts: list[dict[str, NDArray[np.float64]]] = []
    labels: list[NDArray[np.int64]] = []
    rejected = 0
    items = read_items(source)
    while batch := list(islice(items, _BATCH)):
        texts = [item.text for item in batch if item.text is not None]
        rejected += len(batch) - len(texts)
        if texts:
            answers = model.predict(texts)
            parts.append(describe(texts, answers, known))
            labels.append(answers.labels)
    if not parts:
        raise DataError(f"{source.path or 'standard input'} holds no text that can be answered.")
    quantities = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = shifts(reference, quantities, np.concatenate(labels))
    return found, sum(map(len, labels)), rejected


CHAMPION, CHALLENGER = "champion", "challenger"
_FOLDER_TAG = "run_folder"


@dataclass(frozen=True)
class Promotion:
    """The outcome of a challenge of the champion."""

    promoted: bool  # whether the challenger is champion now
    reason: str  # why, or why not
    version: str  # the version that was registered


def open_registry(plain: Mapping[str, Any]) -> Any:
    """Return an MLflow client of the project's store."""
    store = Store(plain)
    store.connect()
    return store.client


def register_run(plain: Mapping[str, Any], word: str, name: str, alias: str | None = None) -> str:
    """Register a run's model as a new version, to which the alias points from now on, and return the version.

    Raises:
        ConfigError: The word means several runs.
        AgnewsError: The run or its model is not in MLflow.
    """
    from mlflow.exceptions import MlflowException

    run = one_run(plain, word)
    client, run_id = mlflow_run_of(plain, run.path)
    models = [output.model_id for output in client.get_run(run_id).outputs.model_outputs]
    if not models:
        raise AgnewsError(f"{run.path.name} has no model in MLflow.", fix="tracking.log_model=true force=true")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ConfigError(f"--name {name}: {first_line(error)}") from error
    result = run.result() or {}
    facts = {"fingerprint": str(result["fingerprint"]), "run_name": str(result["name"])}
    facts[_FOLDER_TAG] = _place(plain, run)
    known = [found for found in client.search_model_versions(f"run_id = '{run_id}'") if found.name == name]
    if known:  # an earlier command has made it
        version = str(known[0].version)
    else:
        source = f"models:/{models[-1]}"
        made = client.create_model_version(name, source=source, run_id=run_id, model_id=models[-1], tags=facts)
        version = str(made.version)
    if alias is not None:
        client.set_registered_model_alias(name, alias, version)
    return version


def _place(plain: Mapping[str, Any], run: RunFolder) -> str:
    """Return a run's folder within the outputs, which holds where the project moves, or the whole path elsewhere."""
    outputs = Path(plain["paths"]["output_dir"]).resolve()
    path = run.path.resolve()
    return path.relative_to(outputs).as_posix() if path.is_relative_to(outputs) else str(path)


def champion_run(plain: Mapping[str, Any], client: Any, name: str) -> RunFolder | None:
    """Return the record of the champion, or None when there is none.

    Raises:
        AgnewsError: Its record is not on this machine.
    """
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None
    run = RunFolder(Path(plain["paths"]["output_dir"]) / version.tags.get(_FOLDER_TAG, ""))
    if run.result() is None:
        raise AgnewsError(
            f"The champion of {name}, version {version.version}, has its record elsewhere: {run.path}",
            fix="compare on the machine that trained it, or agnews register ... --alias champion",
        )
    return run


def promote(
    plain: Mapping[str, Any], word: str, name: str, *, split: str = "val", metric: str = "macro_f1", seed: int = 0
) -> Promotion:
    """Register a run as challenger and make it champion only if it is better than the one there is.

    Better means: the 95 % bootstrap interval of its metric minus the champion's, over the same rows, is above zero.

    The rows are those of ``val``, so that the test set stays unseen by choices, or of ``test``.

    Raises:
        ConfigError: The two were judged on different rows.
    """
    from agnews_exp.compare.comparison import load_comparable
    from agnews_exp.evaluation.statistics.bootstrap import bootstrap_difference

    run = one_run(plain, word)
    client = open_registry(plain)
    champion = champion_run(plain, client, name)
    if champion is not None and champion.path.resolve() == run.path.resolve():
        raise ConfigError(f"{run.path.name} is the champion of {name} already.")
    compared = None if champion is None else load_comparable([run, champion], split)
    version = register_run(plain, word, name, CHALLENGER)
    if compared is None:
        client.set_registered_model_alias(name, CHAMPION, version)
        return Promotion(True, "there was no champion", version)
    ours, theirs = compared.predictions.values()
    found = bootstrap_difference(
        compared.labels, ours, theirs, metric, seed=seed, class_names=compared.class_names
    ).difference
    low, high = found.percentile
    facts = f"{split}/{metric} {found.estimate:+.4f}, 95 % [{low:+.4f}, {high:+.4f}] over {len(ours):,} rows"
    if low <= 0:
        return Promotion(False, f"not shown to be better: {facts}", version)
    client.set_registered_model_alias(name, CHAMPION, version)
    return Promotion(True, f"better: {facts}", version)

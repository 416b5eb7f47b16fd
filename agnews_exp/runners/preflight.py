"""Checks before any training: whether what a configuration needs is there, and whether it fits the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from agnews_exp.config.schema import TrainerConfig
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.errors import ConfigError, StorageError
from agnews_exp.core.process import explain_os_error
from agnews_exp.data.corpus import Splits
from agnews_exp.data.csv_files import column_values
from agnews_exp.evaluation.costs import cost_matrix
from agnews_exp.evaluation.metrics import check_metrics, find_objective, own_metrics
from agnews_exp.evaluation.tasks import check_applies, task_of, task_of_config
from agnews_exp.models.answers import offers
from agnews_exp.models.recipes import PretrainedEncoder, locate


def check_ready(checked: CheckedConfig) -> None:
    """Refuse what is known to fail before the data are read.

    Raises:
        ConfigError: The objective is no metric or one that the model cannot have, or pretrained weights are not there.
        MissingDependencyError: The package that brings the weights is not installed.
        StorageError: The output folder cannot be written.
    """
    run = checked.run
    task = task_of_config(checked.plain["data"])
    check_applies(task, checked.plain)
    check_metrics(run.evaluation, task=task)
    check_writable(Path(run.paths.output_dir))
    model = safe_instantiate(checked.component("model"), "model")
    model = getattr(model, "student", model)
    if (
        not task.one_answer
        and run.model.class_weight
        and not hasattr(model, "class_weight")
        and run.model.family == "classical"
    ):
        raise ConfigError(
            f"model.class_weight={run.model.class_weight}: model={run.model.name} can weigh rows alone, and a row has "
            "several classes.",
            fix="model.class_weight=null, or model=logreg",
        )
    if run.model.family == "classical" and run.split.name in ("group", "time"):
        from agnews_exp.models.inner_folds import check_divisions

        check_divisions(model, run.split.name)
    if isinstance(model, PretrainedEncoder):
        locate(model)
    if run.model.family == "llm":
        model.check()
    if (run.callbacks or run.logger) and run.model.family != "transformer":
        raise ConfigError(
            f"callbacks= and logger= follow the training of a network, and model={run.model.name} is none.",
            fix="leave them out; MLflow has every run's metrics (tracking=mlflow)",
        )
    if run.callbacks or run.logger:
        from agnews_exp.runners.training import build_part, part_class

        known = {"monitor": run.evaluation.primary, "mode": "max", "swa_lrs": 1.0}
        for one in run.callbacks:
            build_part(one, "callbacks", known)
        if run.logger:
            part_class(run.logger, "loggers")
    metric = find_objective(run.evaluation.primary, own=own_metrics(run.evaluation.metrics), task=task).metric
    if (
        metric.of in ("probabilities", "rankings")
        and run.model.family == "classical"
        and not offers(model, "predict_proba")
    ):
        raise ConfigError(
            f"evaluation.primary={run.evaluation.primary}: model={run.model.name} gives no probabilities to judge.",
            fix="evaluation.primary=val/macro_f1, or another model",
        )


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made; one that does not exist yet is judged by its nearest parent."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        error.filename = str(folder)
        raise (explain_os_error(error) or StorageError(f"{folder} cannot be written: {error}.")) from error


def check_rows(checked: CheckedConfig, splits: Splits) -> None:
    """Refuse what does not fit the rows.

    Raises:
        ConfigError: An own metric, an objective of a class, or a number of batches.
        DataError: A class has too few rows for the folds.
    """
    from agnews_exp.data.splits import make_folds

    evaluation, settings = checked.run.evaluation, checked.run.trainer
    task = task_of(splits.train.labels)
    check_applies(task, checked.plain)
    check_metrics(evaluation, splits.validation.labels, splits.class_names, task)
    if evaluation.costs is not None:
        cost_matrix(evaluation.costs, splits.class_names)
    if evaluation.slices:
        column_values(checked.plain["data"], {"val": splits.validation}, evaluation.slices, "evaluation.slices")
    if evaluation.cluster_column not in (None, "near_duplicates"):
        column = [evaluation.cluster_column]
        column_values(checked.plain["data"], {"val": splits.validation}, column, "evaluation.cluster_column")
    if evaluation.folds:
        make_folds(splits, evaluation.folds, checked.run.split_seed)
    if checked.run.model.family == "transformer" and settings.batch_size != "auto":
        longest = checked.plain["model"].get("student", checked.plain["model"]).get("max_length")
        budget = settings.token_budget  # where it cuts batches, their number is known when the texts are tokens
        if budget is None or (isinstance(longest, int) and settings.batch_size * longest <= budget):
            check_batches(settings, -(-len(splits.train) // settings.batch_size), None)


def check_batches(settings: TrainerConfig, n_train: int, n_validation: int | None) -> None:
    """Refuse shares and numbers of batches that do not fit the rows, which Lightning would do amid the training."""
    train_limit = settings.limit_train_batches
    for key, limit, batches in (
        ("limit_train_batches", train_limit, n_train),
        ("limit_val_batches", settings.limit_val_batches, n_validation),
    ):
        if isinstance(limit, float) and batches is not None and int(batches * limit) < 1:
            raise ConfigError(
                f"trainer.{key}={limit}: of {batches:,} batches that share is none.", fix=f"trainer.{key}=1"
            )
    n_train = min(n_train, train_limit) if isinstance(train_limit, int) else int(n_train * train_limit)
    if isinstance(settings.val_check_interval, int) and settings.val_check_interval > n_train:
        raise ConfigError(
            f"trainer.val_check_interval={settings.val_check_interval}: an epoch has {n_train:,} batches (of at most "
            f"trainer.batch_size={settings.batch_size} rows), so no validation would be reached.",
            fix=f"trainer.val_check_interval={n_train}, or 1.0 for the end of each epoch",
        )

"""The one flow of every run: validate, fingerprint, skip?, data, fit, evaluate, record, track."""

from __future__ import annotations

import hashlib
import logging
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from agnews_exp.config.compose import name_model, refuse_saved, refuse_several
from agnews_exp.config.fingerprint import fingerprint, group_fingerprint
from agnews_exp.config.validation import CheckedConfig, check_config
from agnews_exp.core.errors import AgnewsError, ConfigError, Pruned
from agnews_exp.core.paths import CHECKPOINTS
from agnews_exp.core.process import JobFailed, is_stop, seed_everything
from agnews_exp.core.text import masked, paint_log
from agnews_exp.data.corpus import Splits
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.answers import SourceRun
from agnews_exp.models.recipes import pinned
from agnews_exp.runners.choose import make_runner, prepared, start_preparing
from agnews_exp.runners.preflight import check_ready, check_rows
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import drawn_by, load_splits, pinned_data
from agnews_exp.tracking import record
from agnews_exp.tracking.environment import describe_environment, other_packages, other_source
from agnews_exp.tracking.intermediate import study_reporter
from agnews_exp.tracking.mlflow_mirror import is_sweep
from agnews_exp.tracking.record import report_job
from agnews_exp.tracking.runs import continue_in, find_unfinished, source_runs
from agnews_exp.tracking.worker import Mirroring, only_if

if TYPE_CHECKING:
    from agnews_exp.runners.cross_validation import CrossValidation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a call: a run's record, new or from an earlier call."""

    objective: float  # the primary validation metric
    result: Mapping[str, Any]  # the content of result.json
    folder: Path  # where the record lies
    skipped: bool  # whether an earlier run with the same fingerprint answered
    warning: str | None = None


def run(cfg: DictConfig) -> float:
    """Run one composed configuration as Hydra's task; return the objective, for a sweeper to maximise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from agnews_exp.compare.summary import print_summary

    hydra = HydraConfig.get()
    path = Path(hydra.runtime.output_dir)
    paint_log()
    try:
        try:
            refuse_saved(hydra)
            refuse_several(list(hydra.overrides.task))
        except ConfigError:
            if hydra.mode == RunMode.RUN and not (path / record.STATUS).exists():
                shutil.rmtree(path, ignore_errors=True)  # nothing has begun: Hydra's own files say nothing
            raise
        name_model(cfg, hydra.runtime.choices)
        outcome = execute(cfg, path)
    except Pruned as stop:
        log.info("%s", stop)
        report_job("pruned", stop.value, path, reason=str(stop))
        return stop.value
    except Exception as error:
        if hydra.mode == RunMode.RUN:
            raise JobFailed(error) from error
        raise
    report_job("finished", outcome.objective, outcome.folder)
    print_summary(outcome.result, outcome.folder, skipped=outcome.skipped, warning=outcome.warning)
    return outcome.objective


Answers = Mapping[str, Predictions]
"""Answers by the name of the split whose rows they answer: ``train``, ``val``, ``test``."""


def execute(cfg: DictConfig, path: Path, ask: Callable[[Splits, Stages], Answers] | None = None) -> Outcome:
    """Run one composed configuration in a run folder.

    ``ask`` gives the answers of a system that is not trained here (``model=answers``), which are then judged and
    recorded as those of any model.

    Raises:
        AgnewsError: Bad configuration or data, or storage that gave out; the folder's status says so too.
    """
    folder = record.RunFolder(path)
    workers: list[Mirroring] = []
    tracked = OmegaConf.select(cfg, "tracking.enabled", throw_on_resolution_failure=False)
    with only_if(tracked is True and not is_sweep(path.parent)):
        try:
            outcome = _execute(cfg, folder, workers, ask)
        except BaseException as error:
            killed = is_stop(error)
            if isinstance(error, ConfigError):  # Hydra has written down what the check refuses
                for file in (path / ".hydra").glob("*.yaml"):
                    file.write_text(masked(file.read_text(encoding="utf-8")), encoding="utf-8")
            if folder.status != "finished":
                reason = str(error) or type(error).__name__
                trace = None if killed or isinstance(error, AgnewsError) else traceback.format_exc()
                status = "pruned" if isinstance(error, Pruned) else "killed" if killed else "failed"
                pruned = {"step": error.step, "value": error.value} if isinstance(error, Pruned) else None
                folder.abandon(status, reason, traceback=None if status == "pruned" else trace, pruned=pruned)
            for worker in workers:
                worker.finish(stopped=killed)
            raise
        notes = [outcome.warning, *(worker.finish() for worker in workers)]
    return replace(outcome, warning="\n".join(note for note in notes if note) or None)


def _execute(
    cfg: DictConfig,
    folder: record.RunFolder,
    workers: list[Mirroring],
    ask: Callable[[Splits, Stages], Answers] | None,
) -> Outcome:
    checked = check_config(cfg)
    check_ready(checked)
    plain = checked.plain | {"model": pinned(checked.plain["model"]), "data": pinned_data(checked.plain["data"])}
    checked = replace(checked, plain=plain)
    output_dir = Path(plain["paths"]["output_dir"])
    environment = describe_environment(Path(plain["paths"]["root_dir"]))
    seed_everything(checked.run.seed)
    stages = Stages(report=study_reporter())
    folder.start(plain, environment)
    compiled = start_preparing(checked)
    splits = load_splits(checked, stages)
    check_rows(checked, splits)
    sources = source_runs(plain)
    given = _Fitted(ask(splits, stages)) if ask is not None else None
    identified = _identified(checked, sources, given)
    identity = fingerprint(identified, splits.data_checksum)
    earlier = record.recall(output_dir, identity)
    if earlier is not None and not checked.run.force and _of_this_code(earlier.path, environment):
        if (earlier.result() or {}).get("name") != checked.run.name:
            earlier.add_name(checked.run.name)
        return _skip(folder, earlier, checked)
    resumed = find_unfinished(output_dir, identity, folder.path) if checked.run.resume == "auto" else None
    if resumed is not None and _of_this_code(resumed, environment):
        log.info("Going on with %s", resumed)
        continue_in(folder, resumed)
        folder.start(plain, environment)
    compiled()
    folder.identify(identity)
    worker = Mirroring(folder.path, plain)
    workers.append(worker)
    worker.start()
    options = {"folder": folder.path, "fingerprint": identity, "sources": sources}
    fitted = given or _fit_and_answer(checked, splits, stages, folder.path, options)
    result = _judge_and_write(checked, splits, stages, folder.path, fitted)
    group = group_fingerprint(identified, splits.data_checksum, checked.seeded)
    result |= {"fingerprint": identity, "group_fingerprint": group}
    result |= {"seed": checked.run.seed, "split_seed": checked.run.split_seed}
    if checked.run.data_fraction != 1:
        result["subset_seed"] = drawn_by(checked.run)
    objective = _objective(result)
    folder.finish(result | {"objective": objective})
    record.remember(output_dir, identity, folder.path)
    if not checked.run.trainer.keep_checkpoints:
        shutil.rmtree(folder.path / CHECKPOINTS, ignore_errors=True)
    return Outcome(objective, result, folder.path, skipped=False)


def _of_this_code(folder: Path, environment: Mapping[str, Any]) -> bool:
    """Return whether today's source code of this package worked in a run's folder; say what else was different."""
    before = record.read_json(folder / record.ENVIRONMENT) or {}
    if other_source(before, environment):
        log.warning("%s has this fingerprint, but the source code has changed since: running again.", folder)
        return False
    if packages := other_packages(before, environment):
        log.warning("The stored result was made with %s; repeat it with force=true.", packages)
    return True


def _identified(
    checked: CheckedConfig, sources: Mapping[str, SourceRun], given: _Fitted | None = None
) -> Mapping[str, Any]:
    """Return the resolved configuration with what its values mean here and now instead of their names.

    The same name may mean another run or file tomorrow, and ``trainer.precision=auto`` another precision, with other
    answers, on another processor. Several processes draw other dropout masks than one.
    """
    plain = checked.plain
    model = {**pinned(plain["model"]), **{key: run.fingerprint for key, run in sources.items()}}
    if model.get("unlabelled"):
        from agnews_exp.data.unlabelled import source_identity

        model["unlabelled"] = source_identity(model["unlabelled"])
    if given is not None:
        model |= {"name": "answers", "answers": given.checksum()}
    trainer = plain["trainer"]
    if plain["model"]["family"] == "transformer":
        from agnews_exp.runners.lightning_runner import computing_of

        trainer = {**trainer, **computing_of(checked)}
    return {**plain, "model": model, "trainer": trainer}


def expected_fingerprint(checked: CheckedConfig, data_checksum: str) -> str:
    """Return the fingerprint that a run of a configuration on data of this checksum would have now."""
    return fingerprint(_identified(checked, source_runs(checked.plain)), data_checksum)


def _skip(folder: record.RunFolder, earlier: record.RunFolder, checked: CheckedConfig) -> Outcome:
    from agnews_exp.analyses.performing import complete_analyses

    result = earlier.result()
    assert result is not None
    # Nothing happened here: an empty folder beside the real one would only confuse.
    shutil.rmtree(folder.path, ignore_errors=True)
    evaluation = checked.run.evaluation
    notes = complete_analyses(earlier, evaluation.analyses) if evaluation.score_test else []
    objective = _objective(result)
    result |= {"name": checked.run.name}  # the one that was asked for
    return Outcome(objective, result, earlier.path, skipped=True, warning="\n".join(notes) or None)


def _objective(result: Mapping[str, Any]) -> float:
    """Return the primary metric of a result.

    Raises:
        ConfigError: The metric needs probabilities, and the model gives none.
    """
    primary = result["primary"]
    if primary not in result["metrics"]:
        raise ConfigError(
            f"evaluation.primary={primary}: {result['model']} gives no probabilities to judge.",
            fix="evaluation.primary=val/macro_f1, or another model",
        )
    return float(result["metrics"][primary])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What is known of a model when it has answered."""

    answers: Answers  # its answers by split
    metrics: dict[str, float] = field(default_factory=dict)  # numbers of the fit, of folds, and of costs
    notes: list[str] = field(default_factory=list)  # warnings worth keeping
    folds: CrossValidation | None = None  # the answers and scores of cross-validation, where there was one

    def checksum(self) -> str:
        """Return a hash of all answers."""
        digest = hashlib.sha256()
        for split, given in self.answers.items():
            digest.update(f"{split}\x1e".encode() + np.ascontiguousarray(given.labels, dtype="<i8").tobytes())
            if given.probabilities is not None:
                digest.update(np.ascontiguousarray(given.probabilities, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]


def _fit_and_answer(
    checked: CheckedConfig, splits: Splits, stages: Stages, path: Path, options: Mapping[str, Any]
) -> _Fitted:
    """Fit and save the model, and let it answer train, validation and, once and last, test rows.

    With ``evaluation.score_test=false`` (the trials of a search) the test rows are left alone.
    """
    from agnews_exp.evaluation.efficiency import folder_size_mb, measure_throughput, peak_memory_mb
    from agnews_exp.runners.cross_validation import cross_validate

    parts = {"val": splits.validation}
    if checked.run.model.family not in ("cascade", "llm"):  # nothing of them is fitted on training rows
        parts = {"train": splits.train} | parts
    if checked.run.evaluation.score_test:
        parts["test"] = splits.test
    answers: dict[str, Predictions] = {}
    runner = make_runner(checked, **options)
    with prepared(checked, splits):
        folds = cross_validate(checked, splits, stages) if checked.run.evaluation.folds else None
        summary = runner.fit(splits, stages)
        for name, rows in parts.items():
            with stages.stage("predict", f"predicting {len(rows):,} {name} rows"):
                answers[name] = runner.predict(rows.texts).counted_wrong(rows.labels, len(splits.class_names))
    metrics = summary.metrics | (folds.summary() if folds else {})
    # Outside `prepared`: what is measured is a text that nobody has counted before.
    if checked.run.model.family == "llm":
        from agnews_exp.runners.llm_runner import LlmRunner, unparsed

        assert isinstance(runner, LlmRunner)
        shares, notes = unparsed(answers)
        metrics |= runner.usage() | shares
        summary.notes.extend(notes)
    elif (repeats := checked.run.evaluation.latency_repeats) and not any(
        "tokens_input" in source.metrics
        for source in options["sources"].values()  # a part's answers are on the disk
    ):
        with stages.stage("latency", "measuring throughput"):
            metrics |= measure_throughput(runner.predict, splits.validation.texts, repeats)
    with stages.stage("save", "saving the model"):
        runner.save(path / record.MODEL)
    metrics["model_size_mb"] = folder_size_mb(path / record.MODEL)
    _write_beside_model(path / record.MODEL, splits, answers["val"])
    metrics["peak_memory_mb"] = peak_memory_mb()
    return _Fitted(answers, metrics, [*summary.notes], folds)


def _judge_and_write(
    checked: CheckedConfig, splits: Splits, stages: Stages, path: Path, fitted: _Fitted
) -> dict[str, Any]:
    """Judge the answers, write the record's files but result.json, and return what that one holds.

    Analyses look at test rows and at the model: they are left out where there is no test score, or no model.
    """
    from agnews_exp.analyses.errors.near_duplicates import row_groups
    from agnews_exp.data.csv_files import column_values
    from agnews_exp.data.splits import cross_split_duplicates
    from agnews_exp.evaluation.costs import ARGMAX, DECISION, judge_costs
    from agnews_exp.evaluation.metrics import find_objective, judge, keyed, own_metrics, own_record
    from agnews_exp.evaluation.slices import judge_clusters, score_slices
    from agnews_exp.evaluation.tasks import task_of
    from agnews_exp.evaluation.thresholds import gains
    from agnews_exp.models.persistence import add_json
    from agnews_exp.tracking.record_files import write_confusions, write_predictions, write_report

    answers, folds = dict(fitted.answers), fitted.folds
    every = {"train": splits.train, "val": splits.validation, "test": splits.test}
    parts = {name: rows for name, rows in every.items() if name in answers}
    own = own_metrics(checked.run.evaluation.metrics)
    task = task_of(splits.train.labels)
    primary = find_objective(checked.run.evaluation.primary, splits.class_names, own, task)
    metrics = dict(fitted.metrics)
    for name, rows in parts.items():
        metrics |= keyed(judge(rows.labels, answers[name], splits.class_names, own), name, splits.class_names)
    stored = {name: rows for name, rows in parts.items() if name != "train"}
    notes = list(fitted.notes)
    evaluation = checked.run.evaluation
    sliced: dict[str, Any] = {}
    if evaluation.slices:
        judged = {name: rows for name, rows in stored.items() if name != "cv"}
        values = column_values(checked.plain["data"], judged, evaluation.slices, "evaluation.slices")
        for name, rows in judged.items():
            of_split = {column: by_split[name] for column, by_split in values.items()}
            sliced[name] = [s.to_dict() for s in score_slices(rows.labels, answers[name].labels, of_split)]
    clustered: dict[str, Any] = {}
    clusters: dict[str, list[str]] = {}
    if (column := evaluation.cluster_column) is not None:
        judged = {name: rows for name, rows in parts.items() if name != "train"} | {"train": splits.train}
        clusters = row_groups(column, checked.plain["data"], judged, Path(checked.run.paths.cache_dir))
        known = set(clusters.pop("train"))
        for name, names in clusters.items():
            clustered[name] = judge_clusters(
                judged[name].labels, answers[name].labels, names, known, splits.class_names
            )
    decision = None
    if evaluation.costs is not None:
        labels = {name: rows.labels for name, rows in stored.items()}
        decision = judge_costs(evaluation.costs, labels, answers, splits.class_names)
        for name, costs in decision["splits"].items():
            metrics |= {
                f"{name}/cost": costs["default"]["estimate"],
                f"{name}/cost_chosen": costs["chosen"]["estimate"],
            }
        if answers["val"].probabilities is None:
            notes.append("evaluation.costs: the model gives no probabilities, so its own answers are all there is.")
        if decision["rule"] != ARGMAX and (path / record.MODEL).is_dir():
            add_json(path / record.MODEL, DECISION, {name: decision[name] for name in ("rule", "threshold", "costs")})
    chosen: dict[str, Any] = {}
    if evaluation.thresholds is not None:
        pairs = {name: (rows.labels, answers[name]) for name, rows in stored.items()}
        chosen = {"rule": evaluation.thresholds, "splits": gains(pairs, splits.class_names, "macro_f1")}
        notes.append("evaluation.thresholds were chosen on validation rows, so their validation scores are flattered.")
    if folds:
        stored["cv"], answers["cv"] = folds.rows, folds.predictions
    held_out = folds.folds if folds else None
    write_predictions(path / record.PREDICTIONS, stored, answers, splits.class_names, held_out, clusters)
    if "test" in parts:
        write_report(path / record.REPORT, splits.test, answers["test"], splits.class_names)
    n_classes = len(splits.class_names)
    matrices = {k: task.matrix(rows.labels, answers[k].labels, n_classes) for k, rows in stored.items()}
    write_confusions(path / record.FIGURES, matrices, stored, splits.class_names)
    corpus = splits.corpus
    analyses = checked.plain["evaluation"].get("analyses")
    if analyses and "test" in parts and (path / record.MODEL).is_dir():
        with stages.stage("analyses", "analysing"):
            found, failures = _analyse(checked, splits, answers, path, analyses, stages.timings)
        metrics |= found
        notes += failures
    for note in notes:
        log.warning("%s", note)
    return {
        "name": checked.run.name,
        "model": checked.run.model.name,
        "features": checked.run.features.name,
        "family": checked.run.model.family,
        "task": task.name,
        "data_fraction": checked.run.data_fraction,
        "primary": primary.stored_as(checked.run.evaluation.primary.partition("/")[0], splits.class_names),
        "metrics": metrics,
        "own_metrics": own_record(own),
        **({"decision": decision} if decision else {}),
        **({"thresholds": chosen} if chosen else {}),
        **({"slices": sliced} if sliced else {}),
        **({"clusters": clustered} if clustered else {}),
        "timings": dict(stages.timings),
        "notes": [*(corpus.notes if corpus else ()), *notes],
        "class_names": list(splits.class_names),
        "folds": folds.metrics if folds else {},
        task.matrix_key: {k: m.tolist() for k, m in matrices.items()},
        "data": {
            "name": checked.run.data.name,
            "source": checked.run.data.name if splits.source == "csv" else splits.source,
            "location": splits.location,
            "split": checked.run.split.model_dump(),
            "checksum": splits.data_checksum,
            "evaluation_checksum": splits.evaluation_checksum(),
            "rows": {k: len(rows) for k, rows in ({"train": splits.train} | parts).items()},
            "digests": {k: splits.digest(rows) for k, rows in ({"train": splits.train} | parts).items()},
            "duplicates": cross_split_duplicates(splits),
            "counts": dict(corpus.counts) if corpus else {},
        },
    }


def _write_beside_model(folder: Path, splits: Splits, answers: Predictions) -> None:
    """Leave with the model what texts and answers were like on validation rows, and how its files were read."""
    from agnews_exp.evaluation.drift import REFERENCE, model_reference
    from agnews_exp.models.persistence import READING, add_json

    reference = model_reference(splits.train.texts, splits.validation.texts, answers, len(splits.class_names))
    add_json(folder, REFERENCE, reference)
    if splits.corpus is not None and splits.corpus.reading is not None:
        add_json(folder, READING, splits.corpus.reading)


def _analyse(
    checked: CheckedConfig,
    splits: Splits,
    answers: Mapping[str, Predictions],
    path: Path,
    components: Mapping[str, Mapping[str, Any] | None],
    timings: Mapping[str, float],
) -> tuple[dict[str, float], list[str]]:
    """Analyse the run with its saved model, which a later command would load, too."""
    from agnews_exp.analyses.performing import AnalysisContext, analysis_folder, perform_all
    from agnews_exp.models.loading import load_model

    model = load_model(path / record.MODEL)

    def context(name: str) -> AnalysisContext:
        return AnalysisContext(checked, splits, answers, model, analysis_folder(path, name), timings)

    return perform_all(components, context)

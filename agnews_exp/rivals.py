"""Judging of models that are trained elsewhere: their answers, as a file or from a function, become a run's record.

A rival answers the same validation and test rows and is judged by the same code, so that it stands in the same tables.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from agnews_exp.config.compose import compose_config, new_run_id, quoted
from agnews_exp.config.validation import check_config, to_plain
from agnews_exp.core.errors import ConfigError, DataError, unknown_name
from agnews_exp.core.files import atomic_path
from agnews_exp.core.paths import shown_path
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.tables import Reading, open_table
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.experiment import Answers, Outcome, execute
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits
from agnews_exp.tracking.record import escaped
from agnews_exp.tracking.runs import find_runs

System = Any
"""A fitted estimator (``predict_proba`` or ``predict``), or a function from texts to probabilities or class names."""

_GROUPS = ("data", "split", "subset", "split_seed")
_MOST_NAMED = 5
_TOLERANCE = 1e-3
"""How far probabilities that somebody has rounded may be from a sum of one."""


def same_rows(overrides: Sequence[str], like: str | None = None, name: str = "answers") -> DictConfig:
    """Compose the configuration whose rows are to be answered.

    Where no run is given and the overrides name no data, they are those of the latest run; ``name`` is the rival's in
    all tables.

    Raises:
        ConfigError: An override is wrong, or there is no such run.
    """
    own = ["model=answers", "features=text", f"model.name={quoted(name)}", f"name={quoted(name)}"]
    config = compose_config([*own, *overrides])
    if like is None and any(word.lstrip("+~").startswith(("data=", "data.", "experiment=")) for word in overrides):
        return config
    stored = find_runs(to_plain(config), [like or "latest"])[0].config()
    OmegaConf.set_struct(config, False)
    for key in (key for key in _GROUPS if key in stored):
        config[key] = escaped(stored[key])
    return config


def evaluate(config: DictConfig, ask: Callable[[Splits, Stages], Answers]) -> Outcome:
    """Judge answers as those of a trained model, and record them in a run folder of their own.

    Raises:
        AgnewsError: The configuration, the data or the answers are wrong.
    """
    folder = Path(to_plain(config)["paths"]["output_dir"]) / "runs" / new_run_id()
    folder.mkdir(parents=True)
    return execute(config, folder, ask)


def questions(config: DictConfig) -> tuple[Splits, dict[str, TextRows]]:
    """Return the split of a configuration's data, and its rows by the name of their part."""
    splits = load_splits(check_config(config), Stages(quiet=True))
    return splits, {"train": splits.train, "val": splits.validation, "test": splits.test}


def write_questions(config: DictConfig, path: Path) -> int:
    """Write the validation and test texts that a rival has to answer, without their labels; return how many.

    The file, .csv or .jsonl, has ``split``, ``row_id`` and ``text``.
    """
    _, rows = questions(config)
    lines = [
        (split, int(i), text)
        for split in ("val", "test")
        for i, text in zip(rows[split].row_ids, rows[split].texts, strict=True)
    ]
    keys = ("split", "row_id", "text")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(dict(zip(keys, line, strict=True)), ensure_ascii=False) + "\n" for line in lines)
        else:
            csv.writer(file).writerows([keys, *lines])
    return len(lines)


def ask_system(system: System) -> Callable[[Splits, Stages], Answers]:
    """Return what asks an estimator or a function for the answers to validation and test texts."""

    def ask(splits: Splits, stages: Stages) -> Answers:
        answers = {}
        for split, rows in (("val", splits.validation), ("test", splits.test)):
            with stages.stage("predict", f"asking for {len(rows):,} {split} rows"):
                answers[split] = answers_of(system, rows.texts, splits.class_names)
        return answers

    return ask


def answers_of(system: System, texts: Sequence[str], class_names: Sequence[str]) -> Predictions:
    """Ask an estimator, or a function that gives probabilities in the order of K class names, for answers to n texts.

    Raises:
        ConfigError: It is neither, or its answers are not one for each text.
    """
    if hasattr(system, "predict_proba"):
        given = np.asarray(system.predict_proba(list(texts)))
        if given.ndim == 2 and given.shape[1] == len(getattr(system, "classes_", ())):
            given = _in_order(given, system.classes_, class_names)
    elif hasattr(system, "predict"):
        given = np.asarray(system.predict(list(texts)))
    elif callable(system):
        given = np.asarray(system(list(texts)))
    else:
        raise ConfigError(
            f"{type(system).__name__} cannot be asked: it has no predict_proba, no predict, and is no function.",
            fix="give an estimator that was fitted on texts, or a function from a list of texts to probabilities",
        )
    if len(given) != len(texts):
        raise ConfigError(f"The system gave {len(given):,} answers to {len(texts):,} texts.")
    if given.ndim == 1:
        return Predictions(_class_indices(given.tolist(), class_names))
    return _of_probabilities(given, class_names)


def _in_order(given: NDArray[Any], classes: Any, class_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the columns of an estimator's classes in the order of the corpus; classes it never saw get zeros."""
    ordered = np.zeros((len(given), len(class_names)))
    ordered[:, _class_indices(list(classes), class_names)] = given
    return ordered


def _class_indices(answers: Sequence[Any], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the class indices, shape (n,), of answers that are class names, or indices already.

    Raises:
        ConfigError: An answer is none of the classes.
    """
    known = {name: i for i, name in enumerate(class_names)}
    found = np.empty(len(answers), dtype=np.int64)
    for place, answer in enumerate(answers):
        index = known.get(str(answer))
        if index is None and isinstance(answer, int | np.integer) and 0 <= int(answer) < len(known):
            index = int(answer)
        if index is None:
            raise unknown_name("class in the answers", str(answer)[:100], list(class_names))
        found[place] = index
    return found


def _of_probabilities(given: NDArray[Any], class_names: Sequence[str]) -> Predictions:
    """Check probabilities, shape (n, K), and return them with the most likely class."""
    expected = (len(given), len(class_names))
    if given.shape != expected or given.dtype.kind not in "fiu":
        raise ConfigError(
            f"The answers have the shape {given.shape} and the type {given.dtype}; probabilities have one row a text "
            f"and one column a class: {expected}.\n  classes: {', '.join(class_names)}"
        )
    values = given.astype(np.float64)
    sums = values.sum(axis=1)
    wrong = np.flatnonzero(~np.isfinite(sums) | (values.min(axis=1) < 0) | (np.abs(sums - 1) > _TOLERANCE))
    if len(wrong):
        first = int(wrong[0])
        raise ConfigError(
            f"{len(wrong):,} answers are no probabilities, such as number {first + 1}: {np.round(values[first], 4)} "
            f"(sum {sums[first]:.4f}); all must be 0 or more and sum to one.",
            fix="apply a softmax, or answer with class names",
        )
    return Predictions(values.argmax(axis=1).astype(np.int64), None, values / sums[:, None])


@dataclass(frozen=True)
class AnswersFile:
    """A file of answers, matched to the rows of a split by ``split`` and ``row_id``, or by text."""

    path: Path  # of any format that data may have
    column: str = "prediction"  # the column with the class names

    def __call__(self, splits: Splits, stages: Stages) -> Answers:
        """Return the answers for all validation and test rows.

        Raises:
            DataError: A row has no answer, or two; a column is missing; a class is unknown.
        """
        with stages.stage("read", f"reading {self.path.name}"):
            records = list(_records(self.path))
        if not records:
            raise DataError(f"{self.path} holds no answers.")
        columns = _probability_columns(records[0], splits.class_names)
        if self.column not in records[0] and columns is None:
            raise DataError(
                f"{self.path} has no column '{self.column}' with class names, nor one of probabilities a class.\n"
                f"  there are: {', '.join(records[0])}",
                fix="agnews evaluate FILE --column NAME",
            )
        fields = self._identity(records[0], splits)
        by_row: dict[tuple[str, ...], Mapping[str, Any]] = {}
        for number, line in enumerate(records, start=1):
            found = by_row.setdefault(tuple(str(line[name]) for name in fields), line)
            if any(found.get(name) != line.get(name) for name in (self.column, *(columns or ()))):
                raise DataError(f"{self.path}: answer {number:,} contradicts an earlier one to the same row.")
        answers = {}
        for split, rows in (("val", splits.validation), ("test", splits.test)):
            known = {"split": [split] * len(rows), "row_id": rows.row_ids.tolist(), "text": rows.texts}
            keys = zip(*(map(str, known[name]) for name in fields), strict=True)
            answers[split] = self._answers(split, rows, [by_row.get(key) for key in keys], splits.class_names, columns)
        return answers

    def _identity(self, first: Mapping[str, Any], splits: Splits) -> tuple[str, ...]:
        """Return the columns that say which row a line answers."""
        apart = not np.intersect1d(splits.validation.row_ids, splits.test.row_ids).size
        for fields in (("split", "row_id"), ("row_id",), ("text",)):
            if all(name in first for name in fields) and (fields != ("row_id",) or apart):
                return fields
        raise DataError(
            f"{self.path} does not say which row each answer is for: it has no columns split and row_id, and no text.",
            fix="agnews evaluate --questions questions.csv   writes the rows to answer; add a column prediction to it",
        )

    def _answers(
        self,
        split: str,
        rows: TextRows,
        lines: Sequence[Mapping[str, Any] | None],
        class_names: Sequence[str],
        columns: Sequence[str] | None,
    ) -> Predictions:
        """Return the answers that a split's lines give, in the order of its rows."""
        if missing := [int(i) for i, line in zip(rows.row_ids, lines, strict=True) if line is None]:
            named = ", ".join(map(str, missing[:_MOST_NAMED])) + (", ..." if len(missing) > _MOST_NAMED else "")
            raise DataError(
                f"{self.path} has no answer for {len(missing):,} of {len(rows):,} {split} rows (row_id {named}).",
                fix="agnews evaluate --questions questions.csv   writes all rows to answer",
            )
        kept = [line for line in lines if line is not None]
        probabilities = None
        if columns is not None:
            given = _of_probabilities(np.array([[_number(line[c], c) for c in columns] for line in kept]), class_names)
            if self.column not in kept[0]:
                return given
            probabilities = given.probabilities
        return Predictions(_class_indices([line[self.column] for line in kept], class_names), None, probabilities)


def _probability_columns(first: Mapping[str, Any], class_names: Sequence[str]) -> list[str] | None:
    """Return the columns with the classes' probabilities, named as a run's own or by the class, or None."""
    for columns in ([f"probability:{column_key(name, class_names)}" for name in class_names], list(class_names)):
        if all(column in first for column in columns):
            return columns
    return None


def _number(value: Any, column: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"The column '{column}' holds {str(value)[:100]!r}, which is no probability.") from None


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of any format that data may have, by column.

    Raises:
        DataError: The file is missing, or a row cannot be read.
    """
    with open_table(path, Reading()) as table:
        for line, values, reason in table.rows(table.names):
            if values is None:
                raise DataError(f"{path}, line {line}: {reason}")
            yield dict(zip(map(str, table.names), values, strict=True))


def add_parsers(commands: Any) -> None:
    """Add the sub-command."""
    command = commands.add_parser("evaluate", help="judge the answers of a model trained elsewhere on the same rows")
    command.add_argument("file", nargs="?", type=Path, help="answers: CSV, TSV, JSON lines, Parquet, spreadsheets")
    command.add_argument(
        "overrides", nargs="*", help="name=rival; data=... and split_seed=... where no run is to be followed"
    )
    command.add_argument("--like", metavar="RUN", help="the run whose rows were answered (default: the latest)")
    command.add_argument("--column", default="prediction", help="of the class names (default: prediction)")
    command.add_argument("--questions", type=Path, metavar="FILE", help="write the rows to answer to FILE, and end")
    command.set_defaults(handler=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from agnews_exp.compare.summary import print_summary

    words = [str(word) for word in (options.file, *options.overrides) if word is not None]
    overrides = [word for word in words if "=" in word]
    files = [Path(word) for word in words if "=" not in word]
    if len(files) != (options.questions is None):
        raise ConfigError("Name one file of answers.", fix="agnews evaluate answers.csv, or --questions questions.csv")
    names = [word.partition("=")[2] for word in overrides if word.startswith("name=")]
    config = same_rows(overrides, options.like, names[-1] if names else files[0].stem if files else "answers")
    if options.questions is not None:
        n = write_questions(config, options.questions)
        place = shown_path(options.questions)
        print(f"{n:,} rows to answer written to {place}\nnext   add a column prediction; agnews evaluate {place}")
        return
    outcome = evaluate(config, AnswersFile(files[0], options.column))
    print_summary(outcome.result, outcome.folder, skipped=outcome.skipped, warning=outcome.warning)

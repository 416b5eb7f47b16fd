"""Labelled files of the user: tables, JSON, spreadsheets or folders, any number of classes, named columns."""

from __future__ import annotations

import itertools
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agnews_exp.core.errors import AgnewsError, ConfigError, DataError
from agnews_exp.core.suggestions import nearest
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.files import (
    EMPTY,
    BadLines,
    Labels,
    as_rows,
    empty_file,
    fixed,
    listed,
    reading,
    shown,
)
from agnews_exp.data.inspection import SHORT, find_leaks, guess_columns
from agnews_exp.data.label_sets import LabelSets
from agnews_exp.data.tables import (
    ColumnName,
    Reading,
    Table,
    column_position,
    format_of,
    joined_text,
    open_table,
)

Treatment = Literal["refuse", "drop", "keep"]
OTHER = "other"
"""The class that rare ones are merged into."""

_REMEMBERED = ("delimiter", "quoting", "encoding", "has_header", "width")


@dataclass
class Intake:
    """The treatment of doubtful rows, and what was found of them."""

    empty_texts: Treatment = "refuse"  # rows without text
    duplicate_rows: Treatment = "keep"  # rows whose text and class stand in an earlier row; ``drop`` keeps the first
    conflicting_labels: Treatment = "keep"  # rows whose text stands in another class too; ``drop`` drops them all
    counts: Counter[str] = field(default_factory=Counter)  # how many of each there were, by the key's name
    notes: list[str] = field(default_factory=list)  # remarks for people
    # Columns' values of the rows that were kept, where they are short; gathered for several text columns.
    short: dict[str, list[str | None]] = field(default_factory=dict)
    how: Reading = field(default_factory=Reading)  # the way the last file was read

    def count(self, path: Path, name: str, n: int, treatment: Treatment, what: str) -> None:
        """Count doubtful rows and say what becomes of them."""
        if n:
            self.counts[name] += n
            verb = {"drop": "dropped", "keep": "kept"}[treatment]
            self.notes.append(f"{path.name}: {n:,} rows {what} ({verb}; {self.how.key(name)}=refuse, drop or keep).")


@dataclass(frozen=True)
class SplitKey:
    """The column whose values rows are split by."""

    split: str  # ``group`` or ``time``
    column: ColumnName

    def read(self, value: Any) -> str:
        """Return a row's group, or its moment as ISO 8601 in UTC, which sorts as text.

        Raises:
            ValueError: There is none, or it is no date.
        """
        if isinstance(value, date):
            value = value.isoformat()
        text = "" if value is None else str(value).strip()
        if not text:
            raise ValueError(f"{shown(str(self.column))} is empty, which split={self.split} goes by")
        if self.split == "group":
            return text
        try:
            found = datetime.fromisoformat(text)
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError(f"{shown(text)} is no ISO 8601 date, such as 2026-11-29 or 2026-11-29T21:42:00Z") from None
        return found.isoformat(timespec="microseconds")


def read_file(
    path: Path,
    text_columns: Sequence[ColumnName],
    label_column: ColumnName | Sequence[ColumnName],
    labels: Labels,
    how: Reading,
    intake: Intake | None = None,
    key: SplitKey | None = None,
) -> TextRows:
    """Read one labelled file: the text columns joined with one space, and the class.

    The classes are extended in place when open. Without an ``intake`` empty texts are refused and other doubtful rows
    kept without a word.

    Returns:
        The rows; ``row_ids`` number all rows of the file, those that were dropped too.

    Raises:
        ConfigError: A column does not exist, or the class is one of the text columns.
        DataError: The file is missing, empty, or has bad lines (all counted, the first ten shown).
    """
    given, intake = intake, intake or Intake()
    texts: list[str] = []
    keys: list[str] = []
    indices, lines, row_ids = array("q"), array("q"), array("q")
    bad = BadLines()
    with reading(path):
        if how.format is None and format_of(path) in (None, "text"):
            how = replace(how, format="csv")
    n_texts, label_columns = len(text_columns), as_list(label_column)
    with open_table(path, how, [*text_columns, *label_columns, *([key.column] if key else [])]) as table:
        intake.how = table.how
        columns = _check_columns(table, text_columns, label_columns)
        if key and table.how.format not in ("json", "jsonl"):
            column_position(path, table.names, key.column, "split.column")
        asked = [*columns, key.column] if key else columns
        n_rows = empty = 0
        find, label_of = labels.find, labels.text
        for line, values, reason in table.rows(asked):
            if values is None:
                bad.add(line, reason or "it cannot be read")
                bad.fix = table.how.advice(reason or "") or bad.fix
                continue
            n_rows += 1
            try:
                if key:
                    *values, mark = values
                    mark = key.read(mark)
                text = joined_text(values[:n_texts])
                label = label_of(values[n_texts:])
                if how.classes and label not in how.classes:
                    label = _class_of(label, how.classes)
                if not text or text.isspace():
                    empty += 1
                    if intake.empty_texts == "refuse":
                        raise ValueError(EMPTY)
                    if intake.empty_texts == "drop":
                        continue
                indices.append(find(label))
            except KeyError as error:
                bad.add(line, labels.explain(error.args[0]))
                continue
            except ValueError as error:
                bad.add(line, str(error))
                if str(error) == EMPTY and given is not None:
                    bad.fix = f"{how.key('empty_texts')}=drop, or correct these lines"
                continue
            texts.append(text)
            lines.append(line)
            row_ids.append(n_rows - 1)
            if key:
                keys.append(mark)
            if given is not None and n_texts > 1:
                for name, value in zip(text_columns, values, strict=False):
                    intake.short.setdefault(str(name), []).append(value if len(value) <= SHORT else None)
        if table.joined:
            intake.counts["rows_of_several_lines"] += table.joined
    if bad.total:
        raise bad.error(path)
    rows = as_rows(path, texts, indices, row_ids)
    if key:
        rows = replace(rows, keys=keys)
    if given is not None:
        intake.count(path, "empty_texts", empty, intake.empty_texts, "have no text")
        rows = _without_repeats(path, rows, lines, intake)
    return rows


def _class_of(label: str, classes: Sequence[str]) -> str:
    if not label.isdecimal() or int(label) >= len(classes):
        raise ValueError(
            f"the label {shown(label)} is no class from 0 to {len(classes) - 1}; -1 marks rows without one"
        )
    return classes[int(label)]


def as_list(columns: ColumnName | Sequence[ColumnName]) -> list[ColumnName]:
    """Return one column or several as a list."""
    return [columns] if isinstance(columns, str | int) else list(columns)


def _check_columns(table: Table, text_columns: Sequence[ColumnName], labels: Sequence[ColumnName]) -> list[ColumnName]:
    """Return the columns to read, those of the classes last.

    Raises:
        ConfigError: One does not exist; the fix names columns by spelling, or else by what they hold.
    """
    path, how = table.path, table.how
    if both := {str(name) for name in labels} & {str(name) for name in text_columns}:
        raise ConfigError(
            f"{how.key('text_columns')} holds {shown(min(both))}, the column of the classes: a model would read it.",
            fix=f"leave it out, or set {how.key('label_column')} to another column",
        )
    wanted = [*text_columns, *labels]
    named = [str(name) for name in table.names if isinstance(name, str)]
    if how.format == "jsonl" or how.format == "json":
        return wanted  # a key may be missing in some rows: these are named
    missing = {str(name) for name in wanted} - set(named)
    if not named or not missing or path is None:
        for name in wanted:
            key = how.key("label_column" if name in labels else "text_columns")
            column_position(path, table.names, name, key)
        return wanted
    with open_table(path, how, wanted) as again:
        guess = guess_columns(again)
    fixes = []
    answer = next((str(name) for name in labels if str(name) in missing), str(labels[0]))
    if answer in missing and len(labels) == 1:
        answer = nearest(answer, [name for name in named if name not in map(str, text_columns)]) or guess.label or ""
        fixes += [fixed(how.key("label_column"), answer)] if answer else []
    if absent := [str(name) for name in text_columns if str(name) in missing]:
        like = [nearest(name, guess.texts) for name in absent]
        if all(like):
            found = [next((n for n in [nearest(str(name), guess.texts)] if n), str(name)) if str(name) in missing
                     else str(name) for name in text_columns]  # fmt: skip
        else:
            found = guess.texts
        found = [name for name in dict.fromkeys(found) if name != answer]
        fixes += [fixed(how.key("text_columns"), found)] if found else []
    first = next(name for name in wanted if str(name) in missing)
    key = how.key("label_column" if first in labels else "text_columns")
    raise ConfigError(
        f"{key}={shown(first) if len(str(first)) > 80 else first}: {path} has no such column.\n"
        f"  its columns: {listed(named)}",
        fix=" ".join(fixes) or f"set {key} to one of its columns; agnews inspect shows what they hold",
    )


def _without_repeats(path: Path, rows: TextRows, lines: array[int], intake: Intake) -> TextRows:
    """Find texts that stand in several rows, and treat them as is asked."""
    first: dict[str, int] = {}
    again: list[tuple[int, int]] = []
    for i, text in enumerate(rows.texts):
        if (before := first.setdefault(text, i)) != i:
            again.append((i, before))
    if not again:
        return rows
    classes = rows.labels
    torn = {rows.texts[i] for i, before in again if classes[i] != classes[before]}
    seen: set[tuple[str, int]] = set()
    drop = np.zeros(len(rows), dtype=bool)
    repeated = np.zeros(len(rows), dtype=bool)
    several = {rows.texts[i] for i, _ in again}
    conflicting = (
        np.fromiter((text in torn for text in rows.texts), dtype=bool, count=len(rows)) if torn else drop.copy()
    )
    for i, text in enumerate(rows.texts):
        if text in several:
            pair = (text, int(classes[i]))
            repeated[i] = pair in seen
            seen.add(pair)
    for name, found, treatment, what in (
        ("conflicting_labels", conflicting, intake.conflicting_labels, "have a text that stands in another class too"),
        ("duplicate_rows", repeated, intake.duplicate_rows, "repeat the text and the class of an earlier one"),
    ):
        if treatment == "refuse" and found.any():
            bad = BadLines(fix=f"{intake.how.key(name)}=drop, or keep; or correct these lines")
            for i in np.flatnonzero(found).tolist():
                bad.add(lines[i], f"it {what.replace('have', 'has', 1).replace('repeat ', 'repeats ', 1)} "
                                  f"(line {lines[first[rows.texts[i]]]})")  # fmt: skip
            raise bad.error(path)
        if treatment == "drop":
            drop |= found
        intake.count(path, name, int(found.sum()), treatment, what)
    if not drop.any():
        return rows
    keep = np.flatnonzero(~drop)
    intake.short = {name: [values[i] for i in keep.tolist()] for name, values in intake.short.items()}
    if not len(keep):
        raise empty_file(path)
    return rows.take(keep)


def load_csv(
    *,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    text_columns: Annotated[list[ColumnName], Field(min_length=1)] | ColumnName = "text",
    label_column: Annotated[list[ColumnName], Field(min_length=1)] | ColumnName = "label",
    multilabel: bool = False,
    label_separator: Annotated[str, Field(min_length=1)] | None = None,
    split: str = "stratified",
    split_column: ColumnName | None = None,
    delimiter: Annotated[str, Field(pattern=r'^(auto|tab|[^\r\n"])$')] = "auto",
    quoting: Literal["auto", "csv", "none"] = "auto",
    encoding: str = "auto",
    has_header: bool = True,
    class_names: list[str] | None = None,
    empty_texts: Treatment = "refuse",
    duplicate_rows: Treatment = "keep",
    conflicting_labels: Treatment = "keep",
    rare_classes: Literal["refuse", "drop", "merge", "keep"] = "refuse",
    rare_rows: Annotated[int, Field(ge=2)] = 7,
) -> Corpus:
    """Load a corpus from the user's files; ``conf/data/csv.yaml`` describes the arguments.

    Raises:
        ConfigError: No training file is named, or a column does not exist.
        DataError: A file is missing, empty, or has bad lines; a class of the validation or test file is not
            in the training file; there is only one class.
    """
    if not train_file:
        raise ConfigError(
            "data=csv needs a training file.",
            fix="data.train_file=my.csv data.label_column=<name of a column>; agnews inspect my.csv writes them",
        )
    texts = as_list(text_columns)
    _check_label_keys(multilabel, label_column, label_separator, class_names)
    labels = LabelSets(as_list(label_column), label_separator) if multilabel else Labels()
    intake = Intake(empty_texts, duplicate_rows, conflicting_labels)
    how = Reading(delimiter=delimiter, quoting=quoting, encoding=encoding, has_header=has_header,
                  classes=tuple(class_names or ()))  # fmt: skip

    key = SplitKey(split, split_column) if split in ("group", "time") and split_column is not None else None

    def read(file: str | Path) -> TextRows:
        return read_file(Path(file).expanduser(), texts, label_column, labels, how, intake, key)

    train = read(train_file)
    remembered = intake.how  # by `predict` and `drift`, for further files of this kind
    counts = labels.counts(train)
    names = sorted(counts)
    if len(names) < 2:
        raise DataError(
            f"{train_file}: all {len(train):,} rows have {f'the class {shown(names[0])}' if names else 'no class'}; "
            "there must be at least two classes.",
            fix="check data.label_column",
        )
    leaks = [] if multilabel else find_leaks(train.texts, train.labels, list(labels.index), intake.short)
    own = [read(file) if file else None for file in (validation_file, test_file)]
    rare = {name: n for name, n in counts.items() if n < rare_rows}
    meaning = _without_rare(names, rare, rare_classes, rare_rows, intake)
    known = tuple(sorted({name for name in meaning.values() if name is not None}))
    if len(known) < 2:
        raise DataError(
            f"data.rare_classes={rare_classes} leaves {len(known)} class; there must be at least two.",
            fix="data.rare_classes=keep, or a smaller data.rare_rows",
        )
    intake.notes += [*_look_alike(known), *leaks]
    # Classes were numbered as they came; sorted names make the numbering independent of the row order.
    validation, test = (None if rows is None else labels.renumbered(rows, meaning, known) for rows in own)
    files = [str(Path(f).expanduser().resolve()) for f in (train_file, validation_file, test_file) if f]
    return Corpus(
        labels.renumbered(train, meaning, known),
        validation,
        test,
        known,
        source="csv",
        location=", ".join(files),
        notes=tuple(intake.notes),
        counts=dict(intake.counts),
        reading={"text_columns": texts} | {name: getattr(remembered, name) for name in _REMEMBERED},
        uncut_below=rare_rows if rare_classes == "keep" else 0,
    )


def _check_label_keys(
    multilabel: bool, columns: list[ColumnName] | ColumnName, separator: str | None, names: list[str] | None
) -> None:
    """Refuse keys about labels that do not go together."""
    several = isinstance(columns, list) and len(columns) > 1
    if not multilabel and (isinstance(columns, list) or separator is not None):
        key = f"data.label_column={columns}" if isinstance(columns, list) else f"data.label_separator={separator}"
        raise ConfigError(f"{key} is for texts of several classes.", fix="data.multilabel=true")
    if multilabel and several and separator is not None:
        raise ConfigError(
            f"data.label_separator={separator} divides the cells of one column, and data.label_column names several.",
            fix="data.label_separator=null",
        )
    if multilabel and names:
        raise ConfigError(
            "data.class_names numbers the class of a row, and data.multilabel=true gives each row several.",
            fix="data.class_names=null",
        )


def column_values(
    data: Mapping[str, Any], parts: Mapping[str, TextRows], columns: Sequence[ColumnName], key: str
) -> dict[str, dict[str, list[str]]]:
    """Return further columns of the user's files for rows of splits: by column, by split, one text a row.

    ``parts`` are rows by split, whose ids say which rows of the files they are; ``key`` is the configuration's that
    names the columns. A JSON row that lacks one has an empty text.

    Raises:
        ConfigError: The data are no files with columns, or a column does not exist.
    """
    if not data.get("train_file") or Path(str(data["train_file"])).expanduser().is_dir():
        raise ConfigError(
            f"{key} names columns, and data={data.get('name')} has none.", fix="data=csv data.train_file=my.csv"
        )
    how = Reading(**{name: data[name] for name in ("delimiter", "quoting", "encoding", "has_header")})
    texts = as_list(data["text_columns"])
    files = {
        split: Path(str(data.get(f"{kind}_file") or data["train_file"])).expanduser()
        for split, kind in (("train", "train"), ("val", "validation"), ("test", "test"))
        if split in parts
    }
    found: dict[str, dict[str, list[str]]] = {str(column): {} for column in columns}
    for path in dict.fromkeys(files.values()):
        for column in columns:
            one = replace(how, format="csv") if format_of(path) in (None, "text") else how
            with open_table(path, one, [*texts, *as_list(data["label_column"])]) as table:
                if table.how.format not in ("json", "jsonl"):
                    column_position(path, table.names, column, key)
                values = [
                    "" if row is None or row[0] is None else str(row[0]).strip() for _, row, _ in table.rows([column])
                ]
            for split in (split for split, file in files.items() if file == path):
                found[str(column)][split] = [values[i] for i in parts[split].row_ids.tolist()]
    return found


def date_columns(data: Mapping[str, Any], parts: Mapping[str, TextRows]) -> dict[str, dict[str, list[str]]]:
    """Return the columns of the user's files that hold a date in every row, read as ``split=time`` reads them.

    Args:
        data: The resolved group ``data`` of a configuration; what is no file with columns has none.
        parts: Rows by split (``train``, ``val``, ``test``).

    Returns:
        By column and split one moment a row, ISO 8601 in UTC; only columns of ten moments or more.
    """
    path = Path(str(data.get("train_file") or "")).expanduser()
    if not data.get("train_file") or path.is_dir():
        return {}
    used = [*as_list(data["text_columns"]), *as_list(data["label_column"])]
    how = Reading(**{name: data[name] for name in ("delimiter", "quoting", "encoding", "has_header")})
    how = replace(how, format="csv") if format_of(path) in (None, "text") else how
    with open_table(path, how, used) as table:
        names = [name for name in table.names if name not in used]
        first = list(itertools.islice(table.rows(names), 20)) if names else []
    found = {}
    for place, name in enumerate(names):
        seen = [row[place] for _, row, _ in first if row is not None]
        if not seen or not all("-" in str(value) for value in seen):  # the cheap look first
            continue
        key = SplitKey("time", name)
        try:
            (values,) = column_values(data, parts, [name], "split.column").values()
            moments = {split: [key.read(value) for value in column] for split, column in values.items()}
        except (ValueError, AgnewsError):
            continue
        if len(set(moments["train"])) >= 10:
            found[str(name)] = moments
    return found


def _without_rare(
    names: Sequence[str], rare: dict[str, int], treatment: str, rare_rows: int, intake: Intake
) -> dict[str, str | None]:
    """Return what each class is called from now on, None where its rows are dropped, and say so."""
    meaning: dict[str, str | None] = {name: name for name in names}
    if not rare:
        return meaning
    who = "1 class has" if len(rare) == 1 else f"{len(rare):,} classes have"
    said = f"{who} fewer than {rare_rows:,} rows: {listed([f'{k} ({n})' for k, n in rare.items()])}"
    intake.counts["rare_classes"] = len(rare)
    if treatment == "drop":
        meaning |= dict.fromkeys(rare)
    elif treatment == "merge":
        meaning |= dict.fromkeys(rare, OTHER)
    outcome = {
        "drop": "dropped",
        "merge": f"merged into the class {OTHER}",
        "keep": "kept in the training rows alone, and no score can tell how well they are answered",
        "refuse": "validation and test have hardly any of them; data.rare_classes=drop, merge or keep settles it",
    }[treatment]
    intake.notes.append(f"{said}; {outcome}.")
    return meaning


def _look_alike(names: Iterable[str]) -> list[str]:
    """Return remarks on classes that people would take for one: by case, blanks, width, accents or invisible marks."""
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
        groups.setdefault(" ".join(plain.casefold().split()), []).append(name)
    return [
        f"The classes {' and '.join(f'{name!r} ({name!a})' for name in group[:5])} look alike, and are different ones."
        for group in groups.values()
        if len(group) > 1
    ]

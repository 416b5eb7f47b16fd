"""The content of a file's columns: which are text, class or number, what gives the class away; `agnews inspect`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import DataError, MissingDependencyError
from agnews_exp.data.files import BadLines, fixed, listed, shown
from agnews_exp.data.label_sets import SetColumns, guess_sets
from agnews_exp.data.tables import ColumnName, Reading, Table, open_table

SHORT = 60
"""Most characters of a value that can be a class, a code or an id."""

_ROWS = 20_000
"""Rows that columns are judged by."""
_LOOKED_AT = 5_000
"""Rows whose words are looked at for one that gives the class away."""
_LEAK = 0.95
_FEWEST = 20

_LABEL_NAMES = (
    "label", "class", "category", "topic", "target", "sentiment", "intent", "tag", "team", "y", "genre", "type", "kind",
    "klasse", "kategorie", "thema", "categorie", "categoria", "section", "department", "rating", "bewertung", "stars",
    "polarity", "queue", "group", "status", "priority", "language", "lang",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column's content."""

    name: ColumnName  # its name or position
    kind: str  # ``text``, ``class``, ``id``, ``number``, ``empty`` or ``other``
    filled: int  # rows with a value
    distinct: int  # different values
    characters: float  # mean length of a value
    example: str  # the first value, cut
    # Share of rows whose class the column alone tells, where that is nearly all; else None.
    gives_away: float | None = None


@dataclass(frozen=True)
class Guess:
    """The columns that hold texts and the class, by their content; the class is never among the texts."""

    texts: list[str]
    label: str | None
    columns: list[Column]


def guess_columns(table: Table) -> Guess:
    """Return which columns of an open table seem to be texts and which the class."""
    names = list(table.names)
    values: list[list[str]] = [[] for _ in names]
    for row in islice((row for _, row, _ in table.rows(names) if row is not None), _ROWS):
        for column, value in zip(values, row, strict=True):
            column.append("" if value is None else str(value))
    return _guess(names, values)


def _guess(names: Sequence[ColumnName], values: Sequence[Sequence[str]]) -> Guess:
    columns = [_describe(name, column) for name, column in zip(names, values, strict=True)]
    likely = [c for c in columns if c.kind == "class"]
    named = {c.name: _name_rank(c.name) for c in likely}
    label = min(likely, key=lambda c: (named[c.name], _is_number(c.example), -columns.index(c)), default=None)
    if label is not None:
        index = {c.name: i for i, c in enumerate(columns)}
        classes = np.unique([value.strip() for value in values[index[label.name]]], return_inverse=True)[1]
        for i, column in enumerate(columns):
            if column is not label and column.kind not in ("empty", "text"):
                share = _told(values[i], classes)
                if share is not None:
                    columns[i] = Column(**{**vars(column), "gives_away": share})
    texts = [str(c.name) for c in columns if c.kind == "text" and c.gives_away is None]
    return Guess(texts, None if label is None else str(label.name), columns)


def _name_rank(name: ColumnName) -> int:
    words = re.split(r"[^a-z]+", str(name).lower())
    return min([_LABEL_NAMES.index(word) for word in words if word in _LABEL_NAMES], default=len(_LABEL_NAMES))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _describe(name: ColumnName, values: Sequence[str]) -> Column:
    filled = [value for value in values if value.strip()]
    distinct = len(set(filled))
    characters = float(np.mean([len(v) for v in filled])) if filled else 0.0
    words = float(np.mean([v.count(" ") + 1 for v in filled[:1000]])) if filled else 0.0
    numbers = sum(map(_is_number, filled[:1000])) / max(1, len(filled[:1000]))
    unique = distinct / max(1, len(filled))
    if not filled:
        kind = "empty"
    elif numbers < 0.9 and (characters > SHORT or (words >= 3 and unique > 0.3)):
        kind = "text"
    elif distinct > 1 and distinct <= max(2, min(1000, len(filled) // 3)) and characters <= SHORT:
        kind = "class"
    elif unique > 0.9 and (numbers > 0.9 or len({_pattern(v) for v in filled}) <= max(3, len(filled) // 20)):
        kind = "id"
    elif numbers > 0.9:
        kind = "number"
    else:
        kind = "text" if words >= 2 and unique > 0.3 else "other"
    return Column(name, kind, len(filled), distinct, characters, filled[0][:SHORT] if filled else "")


def _pattern(value: str) -> str:
    """Return a value with every number replaced by the same one."""
    return re.sub(r"\d+", "9", value.strip().casefold())


def _told(values: Sequence[str | None], classes: NDArray[np.int64]) -> float | None:
    """Return the share of rows whose class follows from a column alone, or None where it is not nearly all of them.

    One half of the rows tells the other's class: by equal values, by equal patterns (numbers apart), or by the nearest
    number. What occurs in one half only tells nothing, so a number of its own for every row gives nothing away unless
    neighbours have the same class.
    """
    n = len(classes)
    counts = np.bincount(classes)
    majority = counts.max(initial=0) / max(1, n)
    if n < _FEWEST or majority == 1:
        return None
    half = np.random.RandomState(0).permutation(n) % 2 == 0
    best = max(
        _share_told(values, classes, half),
        _share_told([None if v is None else _pattern(v) for v in values], classes, half),
        _share_by_number(values, classes, half),
    )
    return best if best >= max(_LEAK, (1 + majority) / 2) else None


def _share_told(values: Sequence[str | None], classes: NDArray[np.int64], half: NDArray[np.bool_]) -> float:
    right = 0
    for side in (half, ~half):
        seen: dict[str, Counter[int]] = {}
        for value, label, known in zip(values, classes.tolist(), side.tolist(), strict=True):
            if known and value:
                seen.setdefault(value, Counter())[label] += 1
        told = {value: found.most_common(1)[0][0] for value, found in seen.items()}
        right += sum(
            not known and value is not None and told.get(value) == label
            for value, label, known in zip(values, classes.tolist(), side.tolist(), strict=True)
        )
    return right / len(classes)


_NUMBER = re.compile(r"(\d{1,15})\D*$")


def _share_by_number(values: Sequence[str | None], classes: NDArray[np.int64], half: NDArray[np.bool_]) -> float:
    found = [_NUMBER.search(value) if value and len(value) <= SHORT else None for value in values]
    if not all(found):
        return 0.0
    numbers = np.array([float(match[1]) for match in found if match])
    right = 0
    for side in (half, ~half):
        order = np.argsort(numbers[side], kind="stable")
        known, labels = numbers[side][order], classes[side][order]
        at = np.clip(np.searchsorted(known, numbers[~side]), 1, max(1, len(known) - 1))
        nearer = np.abs(known[at - 1] - numbers[~side]) <= np.abs(
            known[np.minimum(at, len(known) - 1)] - numbers[~side]
        )
        right += int((labels[np.where(nearer, at - 1, np.minimum(at, len(known) - 1))] == classes[~side]).sum())
    return right / len(classes)


def find_leaks(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    columns: Mapping[str, Sequence[str | None]],
) -> list[str]:
    """Return remarks on what alone gives the class away: a column that is part of the text, or a word.

    ``columns`` are those that make a text, with their n values where they are short, else None.
    """
    rows = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _ROWS)).astype(np.int64))
    notes = []
    for name, values in columns.items():
        short = [values[i] for i in rows.tolist()]
        if _describe(name, [v or "" for v in short]).kind in ("empty", "text"):
            continue
        if (share := _told(short, labels[rows])) is not None:
            left = [other for other in columns if other != name]
            notes.append(
                f"{shown(name)} predicts the class of {share:.1%} of the rows by itself: if it is not known before the "
                f"class is, leave it out with {fixed('data.text_columns', left)}."
            )
    return notes + _telling_words(texts, labels, class_names)


def _telling_words(texts: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> list[str]:
    rows = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _LOOKED_AT)).astype(np.int64))
    chosen = labels[rows]
    sizes = np.bincount(chosen, minlength=len(class_names))
    counts: dict[str, Counter[int]] = {}
    for row, label in zip(rows.tolist(), chosen.tolist(), strict=True):
        for word in {_pattern(word) for word in re.findall(r"[\w-]+", texts[row][:5000])}:
            counts.setdefault(word, Counter())[label] += 1
    notes = []
    for k, name in enumerate(class_names):
        others = len(rows) - int(sizes[k])
        if sizes[k] < _FEWEST or others < _FEWEST:
            continue
        telling = [
            (found[k] / sizes[k], word)
            for word, found in counts.items()
            if found[k] >= _LEAK * sizes[k] and found.total() - found[k] <= 0.01 * others
        ]
        if telling:
            share, word = max(telling)
            what = f"a word like {shown(word)} (9 is any number)" if "9" in word else f"the word {shown(word)}"
            notes.append(
                f"In {share:.0%} of the texts of class {shown(name)}, and hardly any others, stands {what}: "
                "the class may be written into the texts."
            )
    return notes if len(notes) < 3 else [f"{notes[0][:-1]}; likewise in {len(notes) - 1} other classes."]


@dataclass(frozen=True)
class Inspection:
    """The content of a file."""

    path: Path  # the file
    how: Reading  # the way it was read, as found
    rows: int  # rows that could be read
    guess: Guess  # the columns
    classes: list[tuple[str, int]]  # rows of each class, most first; empty without a class
    empty: int  # rows whose text is empty
    duplicates: int  # rows whose text stands in an earlier row
    lengths: tuple[int, int, int]  # words of a text: the 5th, 50th and 95th percentile
    languages: str  # of the texts, as a line to print
    bad: BadLines  # rows that could not be read
    notes: list[str] = field(default_factory=list)  # remarks
    command: str | None = None  # trains on it


def inspect_file(path: Path, how: Reading) -> Inspection:
    """Read a file and find out what its columns hold and how to train on it.

    Quotes that join rows are taken for characters, bytes that are no UTF-8 for Western European ones; it is said.

    Raises:
        DataError: It cannot be read, or has no row.
    """
    bad = BadLines()
    advice: dict[str, str] = {}
    with open_table(path, how) as table:
        found_how, names = table.how, list(table.names)
        values: list[list[str]] = [[] for _ in names]
        for line, row, reason in table.rows(names):
            if row is None:
                bad.add(line, reason or "")
                if said := found_how.advice(reason or ""):
                    advice.setdefault("quoting" if "quot" in said else "encoding", said)
                continue
            for column, value in zip(values, row, strict=True):
                column.append("" if value is None else json.dumps(value) if isinstance(value, list) else str(value))
    notes = []
    if "quoting" in advice and how.quoting == "auto":
        notes.append(f"{bad.total:,} rows cannot be read unless quotes are taken for characters, as is done here.")
        how = replace(how, quoting="none")
    elif "encoding" in advice and how.encoding == "auto":
        notes.append(f"{bad.total:,} rows are no UTF-8; they are read as cp1252, which is a guess: look at the values.")
        how = replace(how, encoding="cp1252")
    if notes:
        again = inspect_file(path, how)
        return replace(again, notes=notes + again.notes)
    n = len(values[0]) if values else 0
    if not n:
        raise bad.error(path) if bad.total else DataError(f"{path}: the file has no rows.")
    some = np.unique(np.linspace(0, n - 1, min(n, _ROWS)).astype(np.int64)).tolist()
    looked_at = [[column[i] for i in some] for column in values]
    guess = _guess(names, looked_at)
    sets = guess_sets(dict(zip(map(str, names), looked_at, strict=True)))
    if sets is not None:
        named = [replace(c, kind="classes") if str(c.name) in sets.names else c for c in guess.columns]
        guess = Guess([name for name in guess.texts if name not in sets.names], None, named)
    index = {str(name): i for i, name in enumerate(names)}
    texts = [" ".join(row) for row in zip(*(values[index[name]] for name in guess.texts), strict=True)]
    labels = [] if guess.label is None else [value.strip() for value in values[index[guess.label]]]
    classes = Counter(label for label in labels if label).most_common() if sets is None else sets.classes
    empty = sum(not text.strip() for text in texts)
    words = [text.count(" ") + 1 for text in texts if text.strip()]
    low, middle, high = (int(x) for x in np.percentile(words, [5, 50, 95])) if words else (0, 0, 0)
    notes += [
        f"{shown(c.name)} predicts {guess.label} for {c.gives_away:.1%} of the rows by itself: it is left out."
        for c in guess.columns
        if c.gives_away is not None
    ]
    if labels and texts:
        by_name = [name for name, _ in classes]
        chosen = [i for i, label in enumerate(labels) if label]
        numbers = np.array([by_name.index(labels[i]) for i in chosen], dtype=np.int64)
        notes += find_leaks([texts[i] for i in chosen], numbers, by_name, {})
    others = [c.name for c in guess.columns if c.kind == "class" and str(c.name) != guess.label]
    if others and sets is None:
        notes.append(f"The class may also be {listed(others, 5)}: set data.label_column to it.")
    if bad.total:
        notes.append(f"{bad.total:,} rows cannot be read: {'; '.join(advice.values()) or 'correct or remove them'}.")
    rare = [f"{name} ({count})" for name, count in classes if count < 7]
    if rare:
        notes.append(f"Classes with fewer than 7 rows: {listed(rare)}.")
    command = None
    if guess.texts and len(classes) > 1:
        gaps = bool(empty or len(labels) > sum(c for _, c in classes))
        command = _command(path, found_how, how, guess, sets, empty=gaps, rare=bool(rare))
    if sets is not None:
        notes.append(f"A text has any number of classes here, {sets.without:,} of {len(some):,} none.")
    duplicates = len(texts) - len(set(texts))
    return Inspection(
        path,
        found_how,
        n,
        guess,
        classes,
        empty,
        duplicates,
        (low, middle, high),
        languages_of(texts),
        bad,
        notes,
        command,
    )


@cache
def language_identifier() -> Callable[[str], tuple[str, float]]:
    """Return a function that gives a text's most probable language (ISO 639-1) and how probable it is.

    Raises:
        MissingDependencyError: py3langid is not installed.
    """
    try:
        langid = import_module("py3langid.langid")
        model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            "Languages need the package 'py3langid' 0.4 or later, which is not installed.",
            fix="pip install 'agnews-exp[eda]'",
        ) from error

    def identify(text: str) -> tuple[str, float]:
        language, probability = model.classify(text)
        return str(language), float(probability)

    return identify


def languages_of(texts: Sequence[str]) -> str:
    """Return the languages of some 500 texts, spread evenly, as a line to print, or the extra that it takes."""
    try:
        identify = language_identifier()
    except MissingDependencyError as error:
        return f"not looked for: {error.fix} (py3langid)"
    filled = [text for text in texts if any(sign.isalpha() for sign in text)]
    some = filled[:: -(-len(filled) // 500) or 1]
    found = [identify(text[:2000]) for text in some]
    counts = Counter(language for language, probability in found if probability >= 0.9)
    named = {name: n for name, n in counts.most_common() if n >= max(2, 0.02 * len(some))}
    if rest := len(some) - sum(named.values()):
        named["other or uncertain"] = rest
    said = [f"{name} {n / len(some):.0%}" for name, n in named.items()]
    return f"{', '.join(said) or 'none'} (of {len(some):,} texts)"


def _command(
    path: Path, found: Reading, asked: Reading, guess: Guess, sets: SetColumns | None, *, empty: bool, rare: bool
) -> str:
    headless = not found.has_header
    texts = [int(name) if headless else name for name in guess.texts]
    words = ["agnews run data=csv", fixed("data.train_file", str(path)), fixed("data.text_columns", texts)]
    labels = sets.names if sets is not None else [str(guess.label)]
    columns = [int(name) if headless else name for name in labels]
    words.append(fixed("data.label_column", columns if len(columns) > 1 else columns[0]))
    words += ["data.multilabel=true"] if sets is not None else []
    words += [fixed("data.label_separator", sets.separator)] if sets is not None and sets.separator else []
    for name in ("delimiter", "quoting", "encoding"):
        if getattr(asked, name) != "auto":
            words.append(fixed(f"data.{name}", getattr(asked, name)))
    if found.format in ("csv", "tsv") and asked.delimiter == "auto" and found.delimiter not in (",", "\t"):
        words.append(fixed("data.delimiter", found.delimiter))
    words += ["data.has_header=false"] if headless else []
    words += ["data.empty_texts=drop"] if empty else []
    words += ["data.rare_classes=drop"] if rare else []
    return " ".join([*words, "model=linear_svc"])

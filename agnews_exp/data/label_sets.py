"""Labelled files of which a text may have several classes, or none: sets in one column, or a column of 0 and 1 each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agnews_exp.core.text import is_name
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.files import Labels, label_text, shown
from agnews_exp.data.tables import ColumnName

_BITS = {"1": True, "true": True, "0": False, "false": False}


class LabelSets(Labels):
    """Maps sets of classes to indices; a set is known by its sorted names as JSON, so that equal ones are one.

    Without a separator a cell holds a JSON list, or ``columns`` hold 0 or 1 each.
    """

    def __init__(self, columns: Sequence[ColumnName], separator: str | None) -> None:
        super().__init__()
        self._columns = [str(column) for column in columns]
        self._separator = separator
        self._known: frozenset[str] = frozenset()

    def text(self, values: Sequence[Any]) -> str:
        """Return the set that the cells of a row stand for.

        Raises:
            ValueError: They stand for none.
        """
        return json.dumps(sorted(set(self._names_in(values))), ensure_ascii=False)

    def _names_in(self, values: Sequence[Any]) -> list[str]:
        if len(self._columns) > 1:
            bits = [_BITS.get(label_text(value).lower()) for value in values]
            if None in bits:
                at = bits.index(None)
                raise ValueError(f"{shown(self._columns[at])} holds {shown(values[at])}, which is neither 0 nor 1")
            return [name for name, bit in zip(self._columns, bits, strict=True) if bit]
        cell = "" if values[0] is None else values[0]
        if isinstance(cell, str) and self._separator is None:
            if cell.strip() and not cell.lstrip().startswith("["):
                raise ValueError(f"the labels {shown(cell)} are no JSON list, and data.label_separator is null")
            try:
                cell = json.loads(cell) if cell.strip() else []
            except ValueError as error:
                raise ValueError(f"the labels {shown(cell)} are no JSON list ({error})") from None
        parts = cell.split(self._separator) if isinstance(cell, str) else cell
        if not isinstance(parts, Sequence):
            raise ValueError(f"the labels are no list: {shown(cell)}")
        names = [name for name in map(label_text, parts) if name]
        if wrong := [name for name in names if not is_name(name)]:
            raise ValueError(super().explain(wrong[0]))
        return names

    def find(self, label: str) -> int:
        """Return the index of a set; of closed labels every name must be known.

        Raises:
            KeyError: A name is not.
        """
        if label not in self.index and not self.is_open:
            for name in json.loads(label):
                if name not in self._known:
                    raise KeyError(name)
        return self.index.setdefault(label, len(self.index))

    def explain(self, label: str) -> str:
        """Say why :meth:`find` refuses a name."""
        return Labels(tuple(sorted(self._known))).explain(label)

    def counts(self, rows: TextRows) -> dict[str, int]:
        """Return the rows of each class, and know no others from now on."""
        found: dict[str, int] = dict.fromkeys(self._columns, 0) if len(self._columns) > 1 else {}
        of_each = np.bincount(rows.labels, minlength=len(self.index)).tolist()
        for names, n in zip(map(json.loads, self.index), of_each, strict=True):
            for name in names:
                found[name] = found.get(name, 0) + n
        self.is_open, self._known = False, frozenset(found)
        return found

    def renumbered(self, rows: TextRows, meaning: Mapping[str, str | None], names: Sequence[str]) -> TextRows:
        """Return rows with sets of classes, shape (n, K); a class that means none leaves its rows."""
        member = np.zeros((len(self.index), len(names)), dtype=np.int64)
        for place, label in enumerate(self.index):
            for name in json.loads(label):
                if (new := meaning[name]) is not None:
                    member[place, names.index(new)] = 1
        return replace(rows, labels=member[rows.labels])


@dataclass(frozen=True)
class SetColumns:
    """Columns that seem to hold sets of classes."""

    names: list[str]  # one, or several of 0 and 1
    separator: str | None  # of the classes in a cell; None: a JSON list, or several columns
    classes: list[tuple[str, int]]  # rows of each class, most first
    without: int  # rows without any class


def guess_sets(columns: Mapping[str, Sequence[str]]) -> SetColumns | None:
    """Return which columns of a file seem to hold sets of classes, by their cells as text; None where none do.

    A column does whose cells, divided, are some few names in many combinations; and three columns or more of 0 and 1 do
    of which rows have two or none.
    """
    bits = [name for name, cells in columns.items() if set(map(str.lower, cells)) in ({"0", "1"}, {"false", "true"})]
    if len(bits) > 2:
        sets = [
            [name for name, cell in zip(bits, row, strict=True) if _BITS[cell.lower()]]
            for row in zip(*(columns[name] for name in bits), strict=True)
        ]
        if any(len(one) != 1 for one in sets):
            return _set_columns(bits, None, sets)
    for name, cells in columns.items():
        for mark in (None, "|", ";", ","):
            divided = LabelSets([name], mark)
            try:
                sets = [json.loads(divided.text([cell])) for cell in cells]
            except ValueError:
                continue
            sizes = Counter(part for one in sets for part in one)
            several = sum(len(one) > 1 for one in sets)
            if several >= 0.05 * len(cells) and 2 * len(sizes) <= len(set(cells)) and len(sizes) <= len(cells) // 3:
                return _set_columns([name], mark, sets)
    return None


def _set_columns(names: list[str], separator: str | None, sets: Sequence[Sequence[str]]) -> SetColumns:
    sizes = Counter(part for one in sets for part in one)
    return SetColumns(names, separator, sizes.most_common(), sum(not one for one in sets))

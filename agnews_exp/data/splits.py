"""The split into training, validation and test rows that all models share, and the ways of taking fewer rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Corpus, Splits, TextRows
from agnews_exp.data.files import listed, shown
from agnews_exp.data.stratification import (
    Positions,
    class_counts,
    has_any,
    spread,
    stratified_cut,
    stratified_folds,
)

logger = logging.getLogger(__name__)

Subset = Callable[..., Positions]
"""``subset(labels, *, fraction, seed, n_classes) -> positions``, such as :func:`stratified`.

Labels are class indices, shape (n,), int64, or sets of classes, shape (n, K), ``fraction`` is in (0, 1], ``seed``
orders the rows; positions are ascending, shape (m,), int64."""


def stratified(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take the same share of every class, rounded half up, at least one row; see :data:`Subset`."""
    if labels.ndim > 1:
        return _beginning(spread(labels, seed), labels, fraction)
    counts = np.bincount(labels, minlength=n_classes)
    return _first_of_each_class(labels, np.array([_share(n, fraction) for n in counts]), seed)


def random(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take a share of all rows, whatever their class; the first row of every class is always among them."""
    return _beginning(_order(len(labels), seed), labels, fraction)


def balanced(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take equally many rows of every class, as far as they go; small classes are taken whole.

    The budget is ``fraction`` of all rows: m is the largest number for which min(class size, m), summed over
    the classes, stays within it. So ``fraction=1`` takes all rows, however unequal the classes are.
    """
    counts = np.bincount(labels, minlength=n_classes)
    budget = _share(len(labels), fraction)
    low, high = 1, int(counts.max())  # the sum grows with m, so the largest m that fits is found by halving
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= budget:
            low = middle
        else:
            high = middle - 1
    return _first_of_each_class(labels, np.minimum(counts, low), seed)


def _beginning(order: Positions, labels: Positions, fraction: float) -> Positions:
    """Return the first rows of an order, and the first of every class; positions ascending."""
    rows, classes = (order, labels[order]) if labels.ndim == 1 else _pairs(order, labels)
    firsts = rows[np.unique(classes, return_index=True)[1]]
    return np.union1d(order[: _share(len(labels), fraction)], firsts)


def _pairs(order: Positions, labels: Positions) -> tuple[Positions, Positions]:
    """Return the rows of an order, each once for every class in its set, and these classes."""
    places, classes = np.nonzero(labels[order])
    return order[places], classes


def check_fraction(fraction: float) -> None:
    """Raise a ConfigError unless a share is in (0, 1]."""
    if not 0 < fraction <= 1:
        raise ConfigError(f"data_fraction={fraction}: it must be greater than 0 and at most 1.")


def _share(n: int, fraction: float) -> int:
    """Round half up: monotone in ``fraction``, which nesting needs (largest-remainder rounding is not)."""
    check_fraction(fraction)
    return max(min(n, 1), int(np.floor(n * fraction + 0.5)))


def _order(n: int, seed: int) -> Positions:
    return np.random.RandomState(seed).permutation(n).astype(np.int64)


def _first_of_each_class(labels: Positions, take: NDArray[np.int64], seed: int) -> Positions:
    """Return the first ``take[c]`` rows of every class c in the seeded order, positions ascending."""
    order = _order(len(labels), seed)
    # Sorted by class, in the seeded order within a class.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels, minlength=len(take))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = [by_class[start : start + k] for start, k in zip(starts, take, strict=True)]
    return np.sort(np.concatenate(chosen))


def make_splits(
    corpus: Corpus,
    *,
    split: str = "stratified",
    split_seed: int,
    validation_size: float,
    test_size: float,
    data_fraction: float,
    subset: Subset,
    subset_seed: int | None = None,
    held_out: float | None = None,
) -> Splits:
    """Split a corpus into training, validation and test rows.

    Validation rows are cut from the training rows as ``sklearn.model_selection.train_test_split(...,
    test_size=validation_size, stratify=labels, random_state=split_seed)`` does, unless the corpus has its
    own, which are used whole; test rows likewise, before them. ``data_fraction``, a share or from 2 on a number of
    rows, then shortens the training rows alone, by ``subset``; ``subset_seed`` (None: ``split_seed``) decides which of
    them it takes. With ``held_out``, this share of what it took makes the validation rows instead.
    ``split=group`` cuts whole groups instead, ``split=time`` the newest rows, ``split=files`` nothing.

    Raises:
        ConfigError: A share is out of range, or the source does not have what the split goes by.
        DataError: A class has too few rows for the split, or the source's own parts do not fit it.
    """
    share = data_fraction if data_fraction < 2 else 1.0
    check_fraction(share)
    for note in corpus.notes:
        logger.warning("%s", note)
    train, validation, test = corpus.train, corpus.validation, corpus.test
    if split == "files" and (missing := [k for k, v in (("validation", validation), ("test", test)) if v is None]):
        raise ConfigError(
            f"split=files, but there are no {' and no '.join(missing)} rows of their own.",
            fix=f"{' '.join(f'data.{name}_file=<file>' for name in missing)} where data=csv, or split=stratified",
        )
    if split in ("group", "time") and train.keys is None:
        raise ConfigError(
            f"split={split} needs a column, and the rows of {corpus.source} have none beside text and class.",
            fix="data=csv data.train_file=my.csv, or split=stratified",
        )
    if test is None:
        train, test = _cut(corpus, train, test_size, "test", split_seed, split)
    if validation is None:
        train, validation = _cut(corpus, train, validation_size, "validation", split_seed, split)
    if split in ("group", "time"):
        _check_keys(split, {"training": train, "validation": validation, "test": test})
        if absent := _absent(train, corpus.class_names):
            raise DataError(
                f"split={split} leaves no training row of class {listed(absent)}.",
                fix="data.rare_classes=drop or merge, another split_seed, smaller data.test_size and validation_size",
            )
    if data_fraction > len(train):
        raise ConfigError(
            f"data_fraction={data_fraction:g}: there are {len(train):,} training rows.", fix="data_fraction=1.0"
        )
    if data_fraction >= 2:
        share = data_fraction / len(train)
    if share < 1:
        seed = split_seed if subset_seed is None else subset_seed
        train = train.take(subset(train.labels, fraction=share, seed=seed, n_classes=len(corpus.class_names)))
    if held_out is not None:
        train, validation = _cut(corpus, train, held_out, "validation", split_seed, split)
    for name, rows in (("validation", validation), ("test", test)):
        absent = _absent(rows, corpus.class_names)
        if absent:
            logger.warning("The %s rows have no row of class %s: macro-F1 suffers", name, listed(absent))
    return Splits(
        train=train,
        validation=validation,
        test=test,
        class_names=corpus.class_names,
        source=corpus.source,
        location=corpus.location,
        data_checksum=corpus.checksum(),
        corpus=corpus,
        split=split,
    )


def cross_split_duplicates(splits: Splits) -> dict[str, int]:
    """Count rows whose exact text also stands in another split.

    ``train_validation``, ``train_test`` and ``validation_test`` are rows of the second split with a text of the first.
    """
    held_out = set(splits.validation.texts).union(splits.test.texts)
    seen_in_train = {text for text in splits.train.texts if text in held_out}
    in_validation = set(splits.validation.texts)
    return {
        "train_validation": sum(text in seen_in_train for text in splits.validation.texts),
        "train_test": sum(text in seen_in_train for text in splits.test.texts),
        "validation_test": sum(text in in_validation for text in splits.test.texts),
    }


def make_folds(splits: Splits, n_folds: int, seed: int) -> list[tuple[Positions, Positions]]:
    """Return the folds of the training rows, which follow the split; see :func:`folds_of`."""
    return folds_of(splits.train, splits.class_names, splits.split, n_folds, seed, "evaluation.folds")


def folds_of(
    rows: TextRows, class_names: Sequence[str], split: str, n_folds: int, seed: int | None, key: str
) -> list[tuple[Positions, Positions]]:
    """Return folds of rows: (positions to train on, positions held out), each int64, ascending.

    Stratified ones are shuffled; under ``group`` no group is on both sides; under ``time`` the moments make
    ``n_folds + 1`` windows, and each but the first is held out from a model of all rows before it. Without a seed
    nothing is shuffled; ``key`` is the one that asks for the folds, for messages.

    Raises:
        DataError: A class has fewer rows than there are folds, there are too few groups or moments, or a class is in
            no row that a fold trains on.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    counts = class_counts(rows.labels, len(class_names))
    if split != "time" and counts.min() < n_folds:
        rare = class_names[int(counts.argmin())]
        raise DataError(
            f"{key}={n_folds}, but class {rare!r} has only {counts.min()} training rows.",
            fix=f"{key}={max(2, counts.min())}, or a larger data_fraction",
        )
    nothing = np.zeros(len(rows))
    if split not in ("group", "time"):
        return stratified_folds(rows.labels, n_folds, seed)
    values, numbers = np.unique(np.array(rows.keys), return_inverse=True)
    least, what = (n_folds, "groups") if split == "group" else (n_folds + 1, "moments")
    if len(values) < least:
        raise DataError(
            f"{key}={n_folds} needs {least} {what} in the training rows, which have {len(values)}.",
            fix=f"a smaller {key}, or another split.column than that of {len(values)} {what}",
        )
    if split == "group":
        dealer = StratifiedGroupKFold(n_folds, shuffle=seed is not None, random_state=seed)
        folds = list(dealer.split(nothing, rows.labels, numbers))
    else:
        # Every row's window by the rows before its moment, pushed apart where one moment fills several windows.
        before = np.cumsum(np.bincount(numbers)) - np.bincount(numbers)
        window = before * least // len(rows)
        starts = [0]
        for number in range(1, least):
            wanted = int(np.searchsorted(window, number))
            starts.append(min(max(wanted, starts[-1] + 1), len(values) - (least - number)))
        ends = [*starts[1:], len(values)]
        folds = [
            (np.flatnonzero(numbers < start), np.flatnonzero((numbers >= start) & (numbers < end)))
            for start, end in zip(starts[1:], ends[1:], strict=True)
        ]
    for number, (inside, outside) in enumerate(folds, 1):
        if not len(outside) or (absent := _absent(rows.take(inside), class_names)):
            reason = f"trains on no row of class {listed(absent)}" if len(outside) else "holds no row out"
            raise DataError(
                f"split={split}: fold {number} of {key}={n_folds} {reason}.",
                fix=f"a smaller {key}, or data.rare_classes=drop",
            )
    return folds


def cut_by_key(rows: TextRows, size: float, name: str, seed: int, split: str) -> tuple[TextRows, TextRows]:
    """Return (the rest, the rows cut off): whole groups, or the newest moments, whatever the order of the rows."""
    values = len(set(rows.keys or ()))
    if values < 2:
        raise DataError(
            f"split={split}: {len(rows):,} rows have one value of split.column ({shown(str((rows.keys or [''])[0]))}), "
            f"too few to cut {name} rows off; at least 3 are needed for training, validation and test.",
            fix="another split.column, or split=stratified",
        )
    cut = cut_off(rows.labels, rows.keys or [], size, seed, split)
    return rows.take(np.flatnonzero(~cut)), rows.take(np.flatnonzero(cut))


def cut_off(labels: Positions, keys: Sequence[str], size: float, seed: int, split: str) -> NDArray[np.bool_]:
    """Return which of n rows of two or more groups or moments are the share ``size`` that is cut off, shape (n,).

    Groups come in a seeded order, and each is cut off that brings the share of every class nearer to ``size``.
    """
    values, numbers = np.unique(np.array(keys), return_inverse=True)
    if split == "time":
        newer = np.cumsum(np.bincount(numbers)[::-1])[::-1]  # rows of this moment and of all later ones
        chosen = np.arange(len(values)) >= 1 + np.argmin(np.abs(newer[1:] - len(labels) * size))
        return chosen[numbers]
    counts = np.zeros((len(values), int(labels.max()) + 1))
    np.add.at(counts, (numbers, labels), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    goal = np.where(counts.sum(axis=0) > 0, size, 0.0)
    taken, chosen = np.zeros_like(goal), np.zeros(len(values), dtype=bool)
    for group in _order(len(values), seed):
        nearer = ((taken + shares[group] - goal) ** 2).sum() < ((taken - goal) ** 2).sum()
        if nearer and chosen.sum() < len(values) - 1:
            chosen[group], taken = True, taken + shares[group]
    if not chosen.any():
        chosen[np.argmin(((shares - goal) ** 2).sum(axis=1))] = True
    return chosen[numbers]


def _check_keys(split: str, parts: dict[str, TextRows]) -> None:
    """Refuse parts, such as files of the user's own, that share a group or are not in the order of time."""
    names = list(parts)
    for i, earlier in enumerate(names):
        for later in names[i + 1 :]:
            one, other = parts[earlier].keys or [], parts[later].keys or []
            if split == "group" and (shared := sorted(set(one) & set(other))):
                raise DataError(
                    f"split=group: {earlier} and {later} rows share {len(shared):,} groups: {listed(shared)}.",
                    fix=f"keep each group in one file, or leave the {later} file out, so that its rows are cut off",
                )
            if split == "time" and max(one) > min(other):
                raise DataError(
                    f"split=time: {earlier} rows go on until {max(one)}, but {later} rows begin at {min(other)}.",
                    fix=f"give a {later} file of later rows, or leave it out, so that its rows are cut off",
                )


def _cut(corpus: Corpus, rows: TextRows, size: float, name: str, seed: int, split: str) -> tuple[TextRows, TextRows]:
    """Return (the rest, the rows cut off); stratified, classes that are too small for it may stay in the rest."""
    if not 0 < size < 1:
        raise ConfigError(f"data.{name}_size={size}: it must be greater than 0 and less than 1.")
    if split in ("group", "time"):
        return cut_by_key(rows, size, name, seed, split)
    class_names = corpus.class_names
    counts = class_counts(rows.labels, len(class_names))
    offered = "data.rare_classes=drop (or merge, or keep), or " if corpus.reading is not None else ""
    fix = f"{offered}add rows to these classes, or give an own {name} file (data.{name}_file)"
    whole = class_counts(corpus.train.labels, len(class_names)) < corpus.uncut_below
    small = [f"{class_names[c]} ({counts[c]})" for c in np.flatnonzero((counts < 2) & ~whole)]
    if small:
        raise DataError(f"Too few rows to cut {name} rows off, of class {listed(small)}; at least 2.", fix=fix)
    positions = np.flatnonzero(~has_any(rows.labels, whole))
    n_cut, n_classes = int(np.ceil(len(positions) * size)), int((~whole).sum())
    if min(n_cut, len(positions) - n_cut) < max(1, n_classes):
        raise DataError(
            f"data.{name}_size={size} of {len(positions):,} rows leaves {n_cut} {name} rows and "
            f"{len(positions) - n_cut} others, fewer than the {n_classes} classes.",
            fix=fix,
        )
    rest, cut = (positions[some] for some in stratified_cut(rows.labels[positions], size, seed))
    if whole.any():
        rest = np.concatenate([rest, np.flatnonzero(has_any(rows.labels, whole))])
    kept, cut_off = rows.take(rest), rows.take(cut)
    for part, what in ((cut_off, name), (kept, "remaining")):
        absent = [label for label in _absent(part, class_names) if not whole[class_names.index(label)]]
        if absent:
            raise DataError(
                f"data.{name}_size={size} leaves no {what} row of class "
                + listed([f"{label} ({counts[class_names.index(label)]} rows)" for label in absent])
                + ".",
                fix=fix,
            )
    return kept, cut_off


def _absent(rows: TextRows, class_names: Sequence[str]) -> list[str]:
    return [class_names[c] for c in np.flatnonzero(class_counts(rows.labels, len(class_names)) == 0).tolist()]

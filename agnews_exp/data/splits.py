"""The split into training, validation and test rows that all models share, and the ways of taking fewer rows."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Corpus, Splits, TextRows
from agnews_exp.data.files import listed

logger = logging.getLogger(__name__)

Positions = NDArray[np.int64]
Subset = Callable[..., Positions]
"""``subset(labels, *, fraction, seed, n_classes) -> positions``, such as :func:`stratified`.

Labels are class indices, shape (n,), int64, ``fraction`` is in (0, 1], ``seed`` orders the rows; positions are
ascending, shape (m,), int64."""


def stratified(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take the same share of every class, rounded half up, at least one row; see :data:`Subset`."""
    counts = np.bincount(labels, minlength=n_classes)
    return _first_of_each_class(labels, np.array([_share(n, fraction) for n in counts]), seed)


def random(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take a share of all rows, whatever their class; the first row of every class is always among them."""
    order = _order(len(labels), seed)
    firsts = _first_of_each_class(labels, np.ones(n_classes, dtype=np.int64), seed)
    return np.union1d(order[: _share(len(labels), fraction)], firsts)


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


def check_fraction(fraction: float) -> None:
    """Raise a ConfigError unless a fraction is in (0, 1]."""
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
    split_seed: int,
    validation_size: float,
    test_size: float,
    data_fraction: float,
    subset: Subset,
    subset_seed: int | None = None,
) -> Splits:
    """Split a corpus into training, validation and test rows.

    Validation rows are cut from the training rows as ``sklearn.model_selection.train_test_split(...,
    test_size=validation_size, stratify=labels, random_state=split_seed)`` does, unless the corpus has its
    own, which are used whole; test rows likewise, before them. ``data_fraction`` then shortens the training
    rows alone, by ``subset``; ``subset_seed`` (None: ``split_seed``) decides which of them it takes.

    Raises:
        ConfigError: A share is out of range.
        DataError: A class has too few rows for the split.
    """
    check_fraction(data_fraction)
    for note in corpus.notes:
        logger.warning("%s", note)
    train, validation, test = corpus.train, corpus.validation, corpus.test
    if test is None:
        train, test = _cut(corpus, train, test_size, "test", split_seed)
    if validation is None:
        train, validation = _cut(corpus, train, validation_size, "validation", split_seed)
    if data_fraction < 1:
        seed = split_seed if subset_seed is None else subset_seed
        train = train.take(subset(train.labels, fraction=data_fraction, seed=seed, n_classes=len(corpus.class_names)))
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


def _cut(corpus: Corpus, rows: TextRows, size: float, name: str, seed: int) -> tuple[TextRows, TextRows]:
    """Return (the rest, the rows cut off), stratified; classes that are too small for it may stay in the rest."""
    if not 0 < size < 1:
        raise ConfigError(f"data.{name}_size={size}: it must be greater than 0 and less than 1.")
    from sklearn.model_selection import train_test_split

    class_names = corpus.class_names
    counts = np.bincount(rows.labels, minlength=len(class_names))
    offered = "data.rare_classes=drop (or merge, or keep), or " if corpus.reading is not None else ""
    fix = f"{offered}add rows to these classes, or give an own {name} file (data.{name}_file)"
    whole = np.bincount(corpus.train.labels, minlength=len(class_names)) < corpus.uncut_below
    small = [f"{class_names[c]} ({counts[c]})" for c in np.flatnonzero((counts < 2) & ~whole)]
    if small:
        raise DataError(f"Too few rows to cut {name} rows off, of class {listed(small)}; at least 2.", fix=fix)
    positions = np.flatnonzero(~whole[rows.labels])
    n_cut, n_classes = int(np.ceil(len(positions) * size)), int((~whole).sum())
    if min(n_cut, len(positions) - n_cut) < max(1, n_classes):
        raise DataError(
            f"data.{name}_size={size} of {len(positions):,} rows leaves {n_cut} {name} rows and "
            f"{len(positions) - n_cut} others, fewer than the {n_classes} classes.",
            fix=fix,
        )
    rest, cut = train_test_split(positions, test_size=size, stratify=rows.labels[positions], random_state=seed)
    if whole.any():
        rest = np.concatenate([rest, np.flatnonzero(whole[rows.labels])])
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


def _absent(rows: TextRows, class_names: tuple[str, ...]) -> list[str]:
    counts = np.bincount(rows.labels, minlength=len(class_names))
    return [class_names[c] for c in np.flatnonzero(counts == 0)]

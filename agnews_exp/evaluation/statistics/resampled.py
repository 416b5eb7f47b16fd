"""Tests of models by their scores over folds, seeds and rows, or blocks: t-tests, Friedman's, Nemenyi's.

The training sets of different folds overlap, so the fold scores are correlated and the plain paired t-test rejects
far too often. Nadeau and Bengio (2003) enlarge the variance: with J fold differences of mean d and variance s^2,
t = d / sqrt((1/J + n_test/n_train) s^2) with J - 1 degrees of freedom.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from agnews_exp.core.errors import DataError
from agnews_exp.core.numbers import format_p
from agnews_exp.evaluation.inputs import FloatArray, Result, adjust, open_interval
from agnews_exp.evaluation.metrics import Own
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import MARGIN, joint_bootstrap, scored


@dataclass(frozen=True)
class SeedTest(Result):
    """Test of two models over seeds and rows together: would a difference hold on new rows, trained with new seeds?

    Seeds share the test rows, so that their scores are no independent repetitions: a t-test over them takes the luck of
    these rows for a difference of the models (it rejects half of all true nulls). The variance has named components
    (Bouthillier et al. 2021), and the t of their sum Satterthwaite's degrees of freedom.

    Attributes:
        difference: Mean of A minus mean of B.
        statistic: t.
        degrees_of_freedom: Satterthwaite's; infinite where seeds add nothing to the rows.
        p_value: Two-sided.
        interval: Interval of the difference at ``level``.
        p_equivalent: Of the two one-sided tests (TOST) that the difference is ``margin`` or more to either side.
        rows_error: Standard error of the difference over test rows, seeds fixed (paired bootstrap).
        seeds_error: Standard error over seeds, beyond what the rows alone make seeds differ.
    """

    difference: float
    statistic: float
    degrees_of_freedom: float
    p_value: float
    interval: tuple[float, float]
    level: float
    p_equivalent: float
    rows_error: float
    seeds_error: float


def seed_test(
    scores: tuple[FloatArray, FloatArray],
    resampled: tuple[FloatArray, FloatArray],
    *,
    level: float = 0.95,
    margin: float = MARGIN,
) -> SeedTest:
    """Test that two models, each trained with several seeds and judged on the same rows, score equally in the mean.

    A score is model + row sample + seed + seed by row sample. The bootstrap over rows gives the variance of the means
    over rows; the scores' variance over seeds holds the seeds' own and the last term, which the resamples tell apart:
    how much seeds move against each other from resample to resample. A plain bootstrap of seeds would leave out a third
    of the variance of three seeds and count that term three times (Owen 2007). ``scores`` are the models' by seed,
    shapes (S_a,) and (S_b,), ``resampled`` the same on R equal resamples of the rows, shapes (S_a, R) and (S_b, R).
    """
    open_interval(level, "level")
    difference = float(scores[0].mean() - scores[1].mean())
    rows = float(np.var(resampled[0].mean(axis=0) - resampled[1].mean(axis=0), ddof=1))
    own = []
    for score, drawn in zip(scores, resampled, strict=True):
        by_row = float(np.var(drawn - score[:, None], axis=0, ddof=1).mean())
        own.append(max(0.0, float(np.var(score, ddof=1)) - by_row) / len(score))
    variance = rows + sum(own)
    spread = sum(v**2 / (len(score) - 1) for v, score in zip(own, scores, strict=True))
    df, error = variance**2 / spread if spread > 0 else math.inf, math.sqrt(variance)
    if error == 0:  # every row is answered alike by all: nothing to judge by
        return SeedTest(difference, 0.0, df, 1.0, (difference, difference), level, 1.0, 0.0, 0.0)
    reach, t = float(stats.t.ppf((1 + level) / 2, df)) * error, difference / error
    return SeedTest(
        difference, t, df, float(2 * stats.t.sf(abs(t), df)), (difference - reach, difference + reach), level,
        _equivalence(difference, error, df, margin), math.sqrt(rows), math.sqrt(sum(own)),
    )  # fmt: skip


@dataclass(frozen=True)
class FriedmanTest(Result):
    """Friedman's test of all models, with Nemenyi's comparison of each pair.

    Attributes:
        names: The k models, in the order of the columns given.
        mean_ranks: Mean rank of each model; 1 is the best. Ties share their mean rank.
        n_blocks: Number of blocks N.
        statistic: Friedman's chi-square, corrected for ties.
        p_value: Its p-value with k - 1 degrees of freedom.
        iman_davenport_statistic: F = (N - 1) chi2 / (N (k - 1) - chi2) (Iman and Davenport 1980), less conservative.
        iman_davenport_p_value: Its p-value with k - 1 and (k - 1)(N - 1) degrees of freedom.
        kendall_w: Agreement of the blocks on the ranking, 0 to 1: chi2 / (N (k - 1)).
        critical_difference: Two mean ranks that differ by less are not told apart at ``alpha`` (Demsar 2006).
        groups: Names of models that are not told apart: the bars of a critical-difference diagram.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    n_blocks: int
    statistic: float
    p_value: float
    iman_davenport_statistic: float
    iman_davenport_p_value: float
    kendall_w: float
    critical_difference: float
    alpha: float
    groups: tuple[tuple[str, ...], ...]


def critical_difference(n_models: int, n_blocks: int, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference of mean ranks, q sqrt(k (k + 1) / (6 N)) (Demsar 2006, section 3.2.2)."""
    quantile = float(stats.studentized_range.isf(alpha, n_models, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(n_models * (n_models + 1) / (6 * n_blocks))


def rank_models(scores: ArrayLike, higher_is_better: bool = True) -> FloatArray:
    """Return each block's ranks, shape (N, k), 1 for the best; ties share their mean rank."""
    values = np.asarray(scores, dtype=np.float64)
    ranks: FloatArray = stats.rankdata(-values if higher_is_better else values, axis=1)
    return ranks


def friedman_test(
    scores: ArrayLike, names: Sequence[str] | None = None, *, alpha: float = 0.05, higher_is_better: bool = True
) -> FriedmanTest:
    """Test that k >= 3 models rank alike by ``scores`` of shape (N, k), a row for each block, a column for each model.

    Raises:
        DataError: Fewer than 3 models or 2 blocks, values that are not finite, or names that do not fit.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 3 or not np.isfinite(values).all():
        raise DataError(
            f"scores must be finite with 2 or more rows (blocks) and 3 or more columns (models), got {values.shape}",
            fix="compare two models with corrected_t_test",
        )
    open_interval(alpha, "alpha")
    n, k = values.shape
    labels = tuple(names) if names is not None else tuple(str(column) for column in range(k))
    if len(labels) != k or len(set(labels)) != k:
        raise DataError(f"there are {k} models, so names must be {k} different names, got {', '.join(labels)}")
    mean_ranks = rank_models(values, higher_is_better).mean(axis=0)
    if np.ptp(values, axis=1).max() == 0:  # every block is one tie: scipy divides by zero
        chi_square, p_value = 0.0, 1.0
    else:
        chi_square, p_value = (float(value) for value in stats.friedmanchisquare(*values.T))
    remainder = n * (k - 1) - chi_square
    iman_davenport = (n - 1) * chi_square / remainder if remainder > 1e-9 else math.inf
    smallest = 1 / math.factorial(k) ** (n - 1)  # the chance that all blocks rank alike: no p-value is below it
    distance = critical_difference(k, n, alpha)
    return FriedmanTest(
        names=labels,
        mean_ranks=tuple(mean_ranks.tolist()),
        n_blocks=n,
        statistic=chi_square,
        p_value=max(smallest, p_value),
        iman_davenport_statistic=iman_davenport,
        iman_davenport_p_value=max(smallest, float(stats.f.sf(iman_davenport, k - 1, (k - 1) * (n - 1)))),
        kendall_w=chi_square / (n * (k - 1)),
        critical_difference=distance,
        alpha=alpha,
        groups=_groups(labels, mean_ranks, distance),
    )


def _groups(names: tuple[str, ...], mean_ranks: FloatArray, distance: float) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of models, best first, whose mean ranks lie within the critical difference."""
    order = np.argsort(mean_ranks, kind="stable")
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and mean_ranks[order[end + 1]] - mean_ranks[order[start]] < distance:
            end += 1
        if end > start and end > reached:
            groups.append(tuple(names[index] for index in order[start : end + 1]))
            reached = end
    return tuple(groups)


@dataclass(frozen=True)
class CorrectedTTest(Result):
    """Nadeau-Bengio corrected resampled t-test.

    Attributes:
        difference: Mean of A minus B over the J folds.
        statistic: Corrected t.
        degrees_of_freedom: J - 1.
        p_value: Two-sided; 1 where all folds differ by the same amount, which leaves no variance to judge by.
        interval: Interval of the difference at ``level``.
        p_equivalent: Of the two one-sided tests (TOST) that the difference is ``margin`` or more to either side.
    """

    difference: float
    statistic: float
    degrees_of_freedom: int
    p_value: float
    interval: tuple[float, float]
    level: float
    p_equivalent: float


def correct_t_statistic(naive_statistic: float, n_folds: int, test_train_ratio: float) -> tuple[float, float]:
    """Return the corrected t and its two-sided p-value for a published plain paired t over J folds (of all repeats)."""
    _check(n_folds, test_train_ratio)
    corrected = naive_statistic / math.sqrt(1 + n_folds * test_train_ratio)
    return corrected, float(2 * stats.t.sf(abs(corrected), n_folds - 1))


def corrected_t_test(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    test_train_ratio: float | None = None,
    level: float = 0.95,
    margin: float = MARGIN,
) -> CorrectedTTest:
    """Test that two models score equally over the same J folds (of all repeats).

    ``test_train_ratio`` is n_test / n_train of one fold. Left out, J is taken for the number of folds of one
    cross-validation, 1 / (J - 1); for repeated k-fold cross-validation give 1 / (k - 1). A difference below ``margin``
    counts as none.

    Raises:
        DataError: Lengths differ, fewer than two folds, scores that are not finite, or a bad ratio.
    """
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not np.isfinite(a - b).all():
        raise DataError(
            f"scores_a and scores_b must be finite and hold one score for each fold, got shapes {a.shape}, {b.shape}"
        )
    open_interval(level, "level")
    n_folds = len(a)
    ratio = 1 / (n_folds - 1) if test_train_ratio is None and n_folds > 1 else test_train_ratio or 0.0
    _check(n_folds, ratio)
    differences = a - b
    mean, variance, df = float(differences.mean()), float(differences.var(ddof=1)), n_folds - 1
    scale = math.sqrt((1 / n_folds + ratio) * variance)
    if scale == 0:  # the differences say nothing about how much they could vary: no proof, whatever they are
        ends = (mean, mean) if mean == 0 else (-math.inf, math.inf)
        return CorrectedTTest(mean, 0.0, df, 1.0, ends, level, 1.0)
    reach, t = float(stats.t.ppf((1 + level) / 2, df)) * scale, mean / scale
    p_value, p_equivalent = float(2 * stats.t.sf(abs(t), df)), _equivalence(mean, scale, df, margin)
    return CorrectedTTest(mean, t, df, p_value, (mean - reach, mean + reach), level, p_equivalent)


def _equivalence(difference: float, error: float, df: float, margin: float) -> float:
    return float(stats.t.sf((margin - abs(difference)) / error, df))


def _check(n_folds: int, test_train_ratio: float) -> None:
    if n_folds < 2:
        raise DataError(f"a test over folds needs at least 2 folds, got {n_folds}")
    if not 0 < test_train_ratio < math.inf:
        raise DataError(
            f"test_train_ratio is n_test / n_train of one fold and must be > 0, got {test_train_ratio}",
            fix="for k-fold cross-validation it is 1 / (k - 1)",
        )


BlockKind = Literal["folds", "seeds"]


@dataclass(frozen=True)
class BlockPair(Result):
    """Two models over blocks; differences are A minus B.

    Attributes:
        test: Nadeau and Bengio's corrected t-test over folds, the joint test over seeds and rows.
        p_holm: The t-test's p-value adjusted over the pairs (Holm).
        p_benjamini_hochberg: Likewise with the Benjamini-Hochberg method.
        p_equivalent: The test's, adjusted over the pairs (Holm).
    """

    name_a: str
    name_b: str
    test: CorrectedTTest | SeedTest
    p_holm: float
    p_benjamini_hochberg: float
    p_equivalent: float


@dataclass(frozen=True)
class BlockComparison(Result):
    """Several models over the same blocks.

    Attributes:
        kind: The kind of the blocks.
        metric: Name of the score.
        scores: Each model's score by block name.
        pairs: Every pair, or every model with one; without pairs of models that no seed changes.
        friedman: Test of all models over folds with Nemenyi's comparisons; None for fewer than 3 models, and over
            seeds, which are no independent blocks.
        notes: Reservations about the numbers.
    """

    kind: BlockKind
    metric: str
    scores: dict[str, dict[str, float]]
    pairs: tuple[BlockPair, ...]
    friedman: FriedmanTest | None
    alpha: float
    margin: float
    notes: tuple[str, ...]

    def verdict(self, pair: BlockPair) -> str:
        """Return one sentence on a pair."""
        low, high = pair.test.interval
        p = format_p(pair.p_holm, "adjusted p")
        figures = f"{pair.test.difference:+.4f} {self.metric} [{low:+.4f}, {high:+.4f}], {p}"
        over = f"over {len(self.scores[pair.name_a])} {self.kind}"
        if isinstance(pair.test, SeedTest):
            errors = f"rows {pair.test.rows_error:.4f}, seeds {pair.test.seeds_error:.4f}"
            over += f" and the judged rows together (standard errors: {errors})"
        if pair.p_holm > self.alpha >= pair.p_equivalent:
            within = f"equivalent within {self.margin:g} ({format_p(pair.p_equivalent, 'adjusted p')}, TOST)"
            return f"Trained anew, {pair.name_a} and {pair.name_b} are {within}: {figures} {over}."
        if pair.p_holm > self.alpha:
            return f"Trained anew, {pair.name_a} and {pair.name_b} are not told apart: {figures} {over}."
        better, worse = (pair.name_a, pair.name_b) if pair.test.difference > 0 else (pair.name_b, pair.name_a)
        return (
            f"Trained anew, {better} scores higher than {worse}: {pair.name_a} minus {pair.name_b} is {figures} {over}."
        )


def compare_folds(
    scores: Mapping[str, ArrayLike],
    metric: str,
    *,
    higher_is_better: bool = True,
    against: str | None = None,
    alpha: float = 0.05,
    margin: float = MARGIN,
) -> BlockComparison:
    """Compare models over the k folds of one cross-validation; ``scores`` has each model's, shape (k,), in one order.

    ``against`` compares all with this model only, it being model B; a difference below ``margin`` counts as none.

    Raises:
        DataError: Fewer than two models, two folds, or models with other numbers of folds.
    """
    values = {name: np.asarray(folds, dtype=np.float64) for name, folds in scores.items()}
    if len({folds.shape for folds in values.values()}) > 1:
        listed = ", ".join(f"{name} has {len(folds)}" for name, folds in values.items())
        raise DataError(f"the models were cross-validated with different numbers of folds: {listed}")
    tests = {(a, b): corrected_t_test(values[a], values[b], margin=margin) for a, b in _pairs(list(values), against)}
    names = [str(fold) for fold in range(len(next(iter(values.values()))))]
    table = {name: dict(zip(names, folds.tolist(), strict=True)) for name, folds in values.items()}
    friedman = _friedman(values, alpha, higher_is_better)
    notes = [
        "Folds share training rows, so their scores hang together. The t-test is corrected for it (Nadeau and Bengio"
        " 2003); Friedman and Nemenyi take the folds as independent and may find differences too easily.",
    ]
    if stuck := [f"{a} and {b}" for (a, b), test in tests.items() if test.statistic == 0 and test.difference]:
        notes.append(f"All folds differ by the same amount, so nothing is tested: {', '.join(stuck)}.")
    return _comparison("folds", metric, table, tests, friedman, (alpha, margin), notes)


def compare_seeds(
    y_true: ArrayLike,
    answers: Mapping[str, Mapping[str, Predictions]],
    metric: str,
    *,
    class_names: Sequence[str],
    own: Own = (),
    against: str | None = None,
    alpha: float = 0.05,
    margin: float = MARGIN,
    resamples: int = 2000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
    rows_vary: bool = False,
) -> BlockComparison:
    """Compare models, each trained with several seeds and judged on the same n rows.

    ``answers`` has each model's answers for these rows by seed; ``rows_vary`` says that seeds drew the training rows.
    The judged rows are resampled for a variance; metrics that counts do not determine take a tenth of ``resamples``.
    ``clusters``, shape (n,), are drawn whole. The other arguments are those of :func:`compare_folds`.

    Raises:
        DataError: Fewer than two models, or a model with one seed.
    """
    if single := [name for name, runs in answers.items() if len(runs) < 2]:
        raise DataError(
            f"a test over seeds needs two seeds or more of each model; {', '.join(single)} has one",
            fix="run each model with several seeds: python run.py -m seed=1,2,3,4,5",
        )
    pairs = _pairs(list(answers), against)
    entry, outputs = scored(metric, [p for runs in answers.values() for p in runs.values()], class_names, own)
    calls = resamples if isinstance(entry, str) else max(100, resamples // 10)
    named = {str(place): output for place, output in enumerate(outputs)}
    joint = joint_bootstrap(
        y_true, named, entry, resamples=calls, seed=seed, class_names=class_names, clusters=clusters
    )
    places, scores, differing, start = {}, {}, {}, 0
    for name, runs in answers.items():
        places[name] = slice(start, start + len(runs))
        scores[name] = {str(s): float(v) for s, v in zip(runs, joint.estimates[places[name]], strict=True)}
        mine = outputs[places[name]]
        differing[name] = float(np.mean(np.any([np.reshape(o != mine[0], (len(o), -1)).any(axis=1) for o in mine], 0)))
        start += len(runs)
    fixed = [name for name, share in differing.items() if share == 0]
    tests: dict[tuple[str, str], SeedTest] = {}
    for a, b in pairs:
        if a not in fixed or b not in fixed:
            one, other = places[a], places[b]
            found = joint.estimates[one], joint.estimates[other]
            tests[a, b] = seed_test(found, (joint.resampled[one], joint.resampled[other]), margin=margin)
    varying = ", ".join(f"{name} {share:.1%} of the answers" for name, share in differing.items() if share)
    also, fixed_rows = ("the drawn training rows and ", "") if rows_vary else ("", ", the training rows")
    notes = []
    if varying:
        notes.append(
            f"From seed to seed {also}the random choices of training vary (initialisation, order, dropout: {varying});"
            f" the split{fixed_rows} and the judged rows do not. The interval is over these rows and seeds together."
        )
    if fixed:
        notes.append(
            f"{', '.join(fixed)} answers the same with every seed: such seeds repeat one training and prove nothing."
            " Pairs of such models are not tested over seeds;"
            " data_fraction=0.8 subset_seed=seed draws other training rows with each."
        )
    return _comparison("seeds", metric, scores, tests, None, (alpha, margin), notes)


def _pairs(names: Sequence[str], against: str | None) -> list[tuple[str, str]]:
    if len(names) < 2:
        raise DataError(f"a comparison needs two models or more, got {len(names)}")
    if against is None:
        return list(itertools.combinations(names, 2))
    if against not in names:
        raise DataError(f"against must be one of the models ({', '.join(names)}), got '{against}'")
    return [(name, against) for name in names if name != against]


def _friedman(values: Mapping[str, FloatArray], alpha: float, higher_is_better: bool) -> FriedmanTest | None:
    if len(values) < 3:
        return None
    table = np.stack(list(values.values()), axis=1)
    return friedman_test(table, list(values), alpha=alpha, higher_is_better=higher_is_better)


def _comparison(
    kind: BlockKind,
    metric: str,
    table: dict[str, dict[str, float]],
    tests: Mapping[tuple[str, str], CorrectedTTest | SeedTest],
    friedman: FriedmanTest | None,
    level: tuple[float, float],
    notes: Sequence[str],
) -> BlockComparison:
    p_values = [test.p_value for test in tests.values()]
    equivalent = adjust([test.p_equivalent for test in tests.values()])
    adjusted = adjust(p_values, "holm"), adjust(p_values, "benjamini_hochberg"), equivalent
    pairs = tuple(
        BlockPair(a, b, test, *(float(p[row]) for p in adjusted)) for row, ((a, b), test) in enumerate(tests.items())
    )
    return BlockComparison(kind, metric, table, pairs, friedman, *level, tuple(notes))

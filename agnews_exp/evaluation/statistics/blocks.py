"""Models compared over blocks: the folds of a cross-validation, or seeds.

Tests over test items (:mod:`~.comparison`) ask whether two trained models differ. Tests over folds and seeds ask
whether two ways of training differ: over folds with other training rows, over seeds with other random choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.statistics.independent import WelchTest, welch_test
from agnews_exp.evaluation.statistics.inputs import Result
from agnews_exp.evaluation.statistics.margins import FloatArray
from agnews_exp.evaluation.statistics.multiplicity import adjust
from agnews_exp.evaluation.statistics.ranks import FriedmanTest, WilcoxonTest, friedman_test, wilcoxon_test
from agnews_exp.evaluation.statistics.resampled import CorrectedTTest, corrected_t_test

BlockKind = Literal["folds", "seeds"]

FEW_SEEDS = 5
"""With fewer seeds for a model than this, Welch's test may be off: 3 against 10 rejects 6.2 % for a nominal 5 %."""


@dataclass(frozen=True)
class BlockPair(Result):
    """Two models over blocks; differences are A minus B.

    Attributes:
        name_a: Name of model A.
        name_b: Name of model B.
        test: Nadeau and Bengio's corrected t-test over folds, Welch's t-test over seeds.
        wilcoxon: Signed-rank test over folds; None over seeds, which are not paired.
        p_holm: The t-test's p-value adjusted over the pairs (Holm).
        p_benjamini_hochberg: Likewise with the Benjamini-Hochberg method.
    """

    name_a: str
    name_b: str
    test: CorrectedTTest | WelchTest
    wilcoxon: WilcoxonTest | None
    p_holm: float
    p_benjamini_hochberg: float


@dataclass(frozen=True)
class BlockComparison(Result):
    """Several models over the same blocks.

    Attributes:
        kind: What the blocks are.
        metric: Name of the score.
        scores: Each model's score by block name.
        pairs: Every pair, or every model with one.
        friedman: Test of all models with Nemenyi's comparisons; None for fewer than 3 models or 2 common blocks.
        alpha: Level of verdicts and groups.
        notes: What the reader must know before trusting the numbers.
    """

    kind: BlockKind
    metric: str
    scores: dict[str, dict[str, float]]
    pairs: tuple[BlockPair, ...]
    friedman: FriedmanTest | None
    alpha: float
    notes: tuple[str, ...]

    def verdict(self, pair: BlockPair) -> str:
        """Return one sentence on a pair."""
        low, high = pair.test.interval
        figures = f"{pair.test.difference:+.4f} {self.metric} [{low:+.4f}, {high:+.4f}], adjusted p = {pair.p_holm:.2g}"
        over = f"over {len(self.scores[pair.name_a])} {self.kind}"
        if pair.p_holm > self.alpha:
            return f"Trained anew, {pair.name_a} and {pair.name_b} are not told apart: {figures} {over}."
        better, worse = (pair.name_a, pair.name_b) if pair.test.difference > 0 else (pair.name_b, pair.name_a)
        return (
            f"Trained anew, {better} scores higher than {worse}: {pair.name_a} minus {pair.name_b} is {figures} {over}."
        )


def compare_folds(
    scores: Mapping[str, ArrayLike], metric: str, *, against: str | None = None, alpha: float = 0.05
) -> BlockComparison:
    """Compare models over the folds of one k-fold cross-validation.

    Args:
        scores: Each model's k scores, in the order of the folds, which are the same for all.
        metric: Name of the score; higher is better.
        against: Compare all with this model only, it being model B.
        alpha: Level.

    Raises:
        DataError: Fewer than two models, two folds, or models with other numbers of folds.
    """
    values = {name: np.asarray(folds, dtype=np.float64) for name, folds in scores.items()}
    if len({folds.shape for folds in values.values()}) > 1:
        listed = ", ".join(f"{name} has {len(folds)}" for name, folds in values.items())
        raise DataError(f"the models were cross-validated with different numbers of folds: {listed}")
    tests = {
        (a, b): (corrected_t_test(values[a], values[b]), wilcoxon_test(values[a], values[b]))
        for a, b in _pairs(list(values), against)
    }
    names = [str(fold) for fold in range(len(next(iter(values.values()))))]
    table = {name: dict(zip(names, folds.tolist(), strict=True)) for name, folds in values.items()}
    friedman = _friedman(values, alpha)
    notes = [
        "Folds share training rows, so their scores hang together. The t-test is corrected for it (Nadeau and Bengio"
        " 2003); Wilcoxon, Friedman and Nemenyi take the folds as independent and may find differences too easily.",
    ]
    if 2.0 ** (1 - len(names)) > alpha:
        notes.append(f"With {len(names)} folds the Wilcoxon test cannot get below p = {2.0 ** (1 - len(names)):.2g}.")
    return _comparison("folds", metric, table, tests, friedman, alpha, notes)


def compare_seeds(
    scores: Mapping[str, Mapping[int, float]], metric: str, *, against: str | None = None, alpha: float = 0.05
) -> BlockComparison:
    """Compare models, each trained with several seeds on the same rows.

    Args:
        scores: Each model's score by seed, two seeds or more.
        metric: Name of the score; higher is better.
        against: Compare all with this model only, it being model B.
        alpha: Level.

    Raises:
        DataError: Fewer than two models, or a model with one seed.
    """
    values = {name: np.array(list(by_seed.values()), dtype=np.float64) for name, by_seed in scores.items()}
    tests = {(a, b): (welch_test(values[a], values[b]), None) for a, b in _pairs(list(values), against)}
    common = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    notes = [
        "Seeds change the training's random choices, not the rows: these tests say whether a difference outlasts"
        " retraining, not whether it would hold for other test items."
    ]
    if few := [name for name, row in values.items() if len(row) < FEW_SEEDS]:
        notes.append(
            f"Fewer than {FEW_SEEDS} seeds for {', '.join(few)}: Welch's p-values are rough (3 seeds against 10 reject"
            " 6 % of true nulls at .05)."
        )
    fixed = [name for name, row in values.items() if np.ptp(row) == 0]
    if fixed:
        notes.append(f"{', '.join(fixed)} scores the same with every seed; only the other models' seeds count here.")
    friedman = None
    if len(common) > 1:
        friedman = _friedman({name: np.array([by_seed[s] for s in common]) for name, by_seed in scores.items()}, alpha)
    elif len(values) > 2:
        notes.append("Friedman's test is left out: it needs two seeds that all models have (seed=1,2,3 for each).")
    if friedman is not None:
        notes.append(
            f"Friedman's blocks are the {len(common)} seeds that all models have; equal seeds are not alike between"
            " models, which makes the test no less valid and no stronger than without pairs."
        )
    table = {name: {str(seed): float(v) for seed, v in by_seed.items()} for name, by_seed in scores.items()}
    return _comparison("seeds", metric, table, tests, friedman, alpha, notes)


def _pairs(names: Sequence[str], against: str | None) -> list[tuple[str, str]]:
    if len(names) < 2:
        raise DataError(f"a comparison needs two models or more, got {len(names)}")
    if against is None:
        return list(itertools.combinations(names, 2))
    if against not in names:
        raise DataError(f"against must be one of the models ({', '.join(names)}), got '{against}'")
    return [(name, against) for name in names if name != against]


def _friedman(values: Mapping[str, FloatArray], alpha: float) -> FriedmanTest | None:
    if len(values) < 3:
        return None
    return friedman_test(np.stack(list(values.values()), axis=1), list(values), alpha=alpha)


def _comparison(
    kind: BlockKind,
    metric: str,
    table: dict[str, dict[str, float]],
    tests: Mapping[tuple[str, str], tuple[CorrectedTTest | WelchTest, WilcoxonTest | None]],
    friedman: FriedmanTest | None,
    alpha: float,
    notes: Sequence[str],
) -> BlockComparison:
    p_values = [test.p_value for test, _ in tests.values()]
    holm, benjamini_hochberg = adjust(p_values, "holm"), adjust(p_values, "benjamini_hochberg")
    pairs = tuple(
        BlockPair(a, b, test, wilcoxon, float(holm[row]), float(benjamini_hochberg[row]))
        for row, ((a, b), (test, wilcoxon)) in enumerate(tests.items())
    )
    return BlockComparison(kind, metric, table, pairs, friedman, alpha, tuple(notes))

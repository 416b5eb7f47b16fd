"""Models over folds, seeds and blocks, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from agnews_exp.evaluation.inputs import adjust
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.learning_curve import fit_power_law
from agnews_exp.evaluation.statistics.resampled import (
    compare_folds,
    compare_seeds,
    corrected_t_test,
    friedman_test,
)
from statistics_checks.rows import COVERS, REJECTS, FloatArray, Row


def check_folds(scale: float) -> Iterator[Row]:
    """Nadeau-Bengio under its own model, and in real cross-validations."""
    sets, k = round(10_000 * scale), 10
    rng = np.random.default_rng(7)
    rejected = np.zeros(3)
    for _ in range(sets):  # fold differences with the correlation 1/k that the correction assumes
        scores = math.sqrt(1 / k) * rng.normal() + math.sqrt(1 - 1 / k) * rng.normal(size=k)
        test = corrected_t_test(scores, np.zeros(k))
        naive = scipy_stats.ttest_1samp(scores, 0).pvalue
        rejected += [test.p_value <= 0.05, naive <= 0.05, test.interval[0] <= 0 <= test.interval[1]]
    yield Row("Nadeau-Bengio t, 10 folds, correlation as assumed, null", rejected[0] / sets, sets, REJECTS)
    yield Row("   plain paired t-test on the same folds", rejected[1] / sets, sets, None, "for comparison: misleads")
    yield Row("Nadeau-Bengio 95 % interval, same", rejected[2] / sets, sets, COVERS)
    sets = round(1000 * scale)
    for repeats in (1, 5):
        rejected = np.zeros(2)
        for _ in range(sets):
            scores = _cross_validate(rng, n=200, n_features=8, k=k, repeats=repeats)
            test = corrected_t_test(*scores, test_train_ratio=1 / (k - 1))
            rejected += [test.p_value <= 0.05, scipy_stats.ttest_rel(*scores).pvalue <= 0.05]
        where = f"real CV of two equal learners, {repeats} x {k} folds, null"
        yield Row(f"Nadeau-Bengio t, {where}", rejected[0] / sets, sets, (0.0, 0.06), "approximate: conservative here")
        yield Row(
            "   plain paired t-test on the same folds", rejected[1] / sets, sets, None, "for comparison: misleads"
        )
    for folds in (5, 10):
        rejected = np.zeros(2)
        for _ in range(sets):
            scores = _cross_validate(rng, n=200, n_features=8, k=folds, repeats=1, models=3)
            found = compare_folds(dict(zip("abc", scores, strict=True)), "accuracy")
            assert found.friedman is not None
            any_pair = min(pair.p_holm for pair in found.pairs)
            rejected += [any_pair <= 0.05, found.friedman.p_value <= 0.05]
        where = f"real CV of three equal learners, {folds} folds, null"
        yield Row(f"Nadeau-Bengio t + Holm, any pair, {where}", rejected[0] / sets, sets, (0.0, 0.06), "family-wise")
        note = "for comparison: folds are not independent blocks"
        yield Row("   Friedman over the same folds", rejected[1] / sets, sets, None, note)


def seeded_answers(
    rng: np.random.Generator, n: int, k: int, seeds: tuple[int, int], own: float, noise: float
) -> tuple[NDArray[np.int64], dict[str, dict[int, Predictions]]]:
    """Return true classes (n,) and the answers of two models' seeds; the models are equal in the population.

    Rows have a difficulty of their own for each model, the same for all of its seeds: on any one test set the two
    differ, by the luck of its rows, and each seed repeats that.

    Args:
        rng: Random numbers.
        n: Rows.
        k: Classes, of unequal frequency.
        seeds: Seeds of each model.
        own: Standard deviation of a seed's own skill, in logits.
        noise: Standard deviation of what a seed changes at a single row, in logits.
    """
    share = np.linspace(1, 2, k) / np.linspace(1, 2, k).sum()
    truth = rng.choice(k, size=n, p=share)
    hard = rng.normal(size=n)
    answers: dict[str, dict[int, Predictions]] = {}
    for name, count in zip("ab", seeds, strict=True):
        skill = 4.5 - 2.0 * hard + 2.0 * rng.normal(size=n)
        runs = {}
        for seed in range(count):
            logit = skill + own * rng.normal() + noise * rng.normal(size=n)
            wrong = (truth + rng.integers(1, k, size=n)) % k
            runs[seed] = Predictions(np.where(logit > 0, truth, wrong))
        answers[name] = runs
    return truth, answers


def check_seeds(scale: float) -> Iterator[Row]:
    """The joint test over seeds and rows, beside Welch's t-test over seeds that share the rows."""
    rng, sets = np.random.default_rng(23), round(2000 * scale)
    for n, k, seeds, own, noise in (
        (2000, 4, (5, 5), 0.0, 0.3), (200, 4, (5, 5), 0.0, 1.0), (1000, 20, (3, 5), 0.1, 1.0),
        (7600, 4, (3, 3), 0.1, 1.0), (2000, 4, (5, 5), 0.4, 1.0),
    ):  # fmt: skip
        rejected = np.zeros(3)
        for index in range(sets):
            truth, answers = seeded_answers(rng, n, k, seeds, own, noise)
            names = tuple(map(str, range(k)))
            found = compare_seeds(truth, answers, "macro_f1", class_names=names, resamples=200, seed=index)
            scores = [list(by_seed.values()) for by_seed in found.scores.values()]
            test = found.pairs[0].test
            welch = scipy_stats.ttest_ind(*scores, equal_var=False).pvalue
            rejected += [test.p_value <= 0.05, welch <= 0.05, test.interval[0] <= 0 <= test.interval[1]]
        what = f"macro-F1, {seeds[0]} and {seeds[1]} seeds (sd {own:g}, at a row {noise:g}), {k} classes, n={n}"
        yield Row(f"joint test over seeds and rows, {what}, null", rejected[0] / sets, sets, REJECTS)
        yield Row(f"   Welch t over the same seeds, {what}", rejected[1] / sets, sets, None, "for comparison: misleads")
        yield Row(f"joint 95 % interval over seeds and rows, {what}", rejected[2] / sets, sets, COVERS)


def _cross_validate(
    rng: np.random.Generator, n: int, n_features: int, k: int, repeats: int, models: int = 2
) -> FloatArray:
    """Return fold accuracies (models, repeats k) of least-squares classifiers, on features equally good."""
    label = rng.choice([-1.0, 1.0], size=n)
    features = rng.normal(size=(n, models * n_features)) + 0.25 * label[:, None]
    scores = np.empty((models, repeats, k))
    for repeat in range(repeats):
        fold = rng.permutation(n) % k
        for f in range(k):
            train = fold != f
            for model in range(models):
                columns = slice(model * n_features, (model + 1) * n_features)
                x = features[train, columns]
                weights = np.linalg.solve(x.T @ x, x.T @ label[train])
                right = np.sign(features[~train, columns] @ weights) == label[~train]
                scores[model, repeat, f] = right.mean()
    return scores.reshape(models, repeats * k)


def check_ranks(scale: float) -> Iterator[Row]:
    """Friedman and Nemenyi under the null."""
    rng = np.random.default_rng(13)
    sets = round(2000 * scale)
    n_blocks, k = 20, 5
    rejected = np.zeros(3)
    for _ in range(sets):
        test = friedman_test(rng.normal(size=(n_blocks, 1)) + rng.normal(size=(n_blocks, k)))
        apart = np.ptp(test.mean_ranks) >= test.critical_difference
        rejected += [test.p_value <= 0.05, test.iman_davenport_p_value <= 0.05, apart]
    names = ("Friedman chi-square", "Friedman, Iman-Davenport F", "Nemenyi's critical difference, any pair")
    for index, name in enumerate(names):
        allowed = REJECTS if index == 1 else (0.03, 0.06)
        note = "" if index == 1 else "slightly conservative at few blocks"
        yield Row(f"{name}, {k} models, {n_blocks} blocks, null", rejected[index] / sets, sets, allowed, note)


def check_multiplicity(scale: float) -> Iterator[Row]:
    """Holm's family-wise error rate and the false discovery rate of Benjamini-Hochberg."""
    rng, sets = np.random.default_rng(17), round(20_000 * scale)
    holm, discoveries, unadjusted = 0, 0.0, 0
    for _ in range(sets):
        z = rng.normal(size=20)
        null = 2 * scipy_stats.norm.sf(np.abs(z[:10]))
        holm += adjust(null, "holm").min() <= 0.05
        unadjusted += null.min() <= 0.05
        z[10:] += 3.0  # ten true effects
        found = adjust(2 * scipy_stats.norm.sf(np.abs(z)), "benjamini_hochberg") <= 0.05
        discoveries += found[:10].sum() / max(1, found.sum())
    yield Row("Holm, any of 10 true nulls rejected", holm / sets, sets, REJECTS, "family-wise error rate")
    yield Row("   without adjustment", unadjusted / sets, sets, None, "for comparison: misleads")
    note = "false discovery rate; theory says 10/20 of .05"
    yield Row("Benjamini-Hochberg, 10 true nulls of 20", discoveries / sets, sets, (0.02, 0.03), note)


def check_learning_curves(scale: float) -> Iterator[Row]:
    """How often the interval of the score at twice the rows holds it, for power laws of six points."""
    rng, sets = np.random.default_rng(41), round(2000 * scale)
    rows = 250.0 * 2.0 ** np.arange(6)
    for c, a, b in ((0.93, 1.2, 0.4), (0.95, 3.0, 0.6), (0.85, 0.9, 0.25)):
        held, truth = 0, c - a * (2 * rows[-1]) ** -b
        errors = np.linspace(0.01, 0.006, 6)
        for index in range(sets):
            scores = c - a * rows**-b + errors * rng.standard_normal(6)
            found = fit_power_law(rows, scores, errors, resamples=200, seed=index)
            held += found.doubled_low <= truth <= found.doubled_high
        yield Row(f"power law {c:g} - {a:g} n^-{b:g}, score at twice the rows", held / sets, sets, (0.92, 0.98))

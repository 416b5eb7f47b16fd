"""Two models on one test set: intervals, effect sizes, tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.metrics import count_metric, margins_of_confusion
from agnews_exp.evaluation.slices import score_slices
from agnews_exp.evaluation.statistics.bootstrap import (
    bootstrap_difference,
    bootstrap_mean_difference,
    bootstrap_metric,
    joint_bootstrap,
)
from agnews_exp.evaluation.statistics.effect_size import (
    accuracy_interval,
    difference_p_equivalent,
    effect_sizes,
    metric_interval,
)
from agnews_exp.evaluation.statistics.mcnemar import (
    PairedCounts,
    mcnemar_by_class,
    mcnemar_p_values,
    paired_counts,
    randomisation_test,
    smallest_detectable_difference,
)
from statistics_checks.rows import COVERS, REJECTS, FloatArray, Row

CLASSES = ("0", "1", "2", "3")


def population(null: bool) -> FloatArray:
    """Return probabilities of (true class, class by A, class by B), shape (4, 4, 4), shaped like AG News results.

    Both right .905, A only .037, B only .019, none .039, with unequal classes and lopsided confusions. ``null`` makes
    the two models exchangeable.
    """
    share = np.array([0.22, 0.27, 0.31, 0.20])
    easy = np.array([0.95, 1.0, 0.9, 0.8])  # classes differ in difficulty
    wrong = np.array([[0, 0.2, 0.5, 0.3], [0.6, 0, 0.2, 0.2], [0.3, 0.1, 0, 0.6], [0.25, 0.1, 0.65, 0]])
    cells = np.zeros((4, 4, 4))
    for t in range(4):
        both, only_a, only_b, none = np.array([0.905, 0.037, 0.019, 0.039]) * [easy[t], *[2 - easy[t]] * 3]
        rest = both + only_a + only_b + none
        cells[t, t, t] = both / rest
        cells[t, t, :] += only_a / rest * wrong[t]
        cells[t, :, t] += only_b / rest * wrong[t]
        same, apart = np.diag(wrong[t]), np.outer(wrong[t], wrong[t])
        cells[t] += none / rest * (0.7 * same + 0.3 * apart)
        cells[t] *= share[t]
    if null:
        cells = (cells + cells.transpose(0, 2, 1)) / 2
    return cells / cells.sum()


def data_sets(cells: FloatArray, n: int, sets: int, seed: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield (y_true, pred_a, pred_b) of n items, ``sets`` times."""
    rng = np.random.default_rng(seed)
    codes = np.stack(np.unravel_index(np.arange(cells.size), cells.shape))
    for counts in rng.multinomial(n, cells.ravel(), size=sets):
        y_true, a, b = np.repeat(codes, counts, axis=1)
        yield y_true, a, b


def true_value(cells: FloatArray, metric: str, model: int) -> float:
    """Return a model's metric in the population."""
    confusion = cells.sum(axis=2 if model == 0 else 1)
    return float(count_metric(metric, CLASSES)(margins_of_confusion(confusion)))


def check_bootstrap(scale: float) -> Iterator[Row]:
    """Coverage of percentile intervals."""
    cells, sets = population(null=False), round(1000 * scale)
    for n in (7600, 500):
        for metric in ("macro_f1", "accuracy", "mcc"):
            a, b = (true_value(cells, metric, model) for model in (0, 1))
            held = np.zeros(2)
            for index, arrays in enumerate(data_sets(cells, n, sets, seed=n)):
                pair = bootstrap_difference(*arrays, metric, resamples=2000, seed=index, class_names=CLASSES)
                intervals = (pair.difference.percentile, a - b), (pair.a.percentile, a)
                held += [low <= value <= high for (low, high), value in intervals]
            for kind, count in zip(("difference", "one model"), held, strict=True):
                yield Row(f"bootstrap 95 % interval, {metric}, {kind}, n={n}", count / sets, sets, COVERS)
    for n in (7600, 500):  # item losses as skewed as log-losses (kurtosis 18), correlated between the models
        rng, held = np.random.default_rng(n), 0
        rows = sets if n < 1000 else round(sets / 2)
        for index in range(rows):
            common, own = rng.normal(size=n), rng.normal(size=(2, n))
            losses = np.exp(1.2 * (0.8 * common + 0.6 * own) + np.array([[-1.0], [-0.8]]))
            low, high = bootstrap_mean_difference(*losses, resamples=1000, seed=index).difference.percentile
            held += low <= math.exp(-1 + 0.72) - math.exp(-0.8 + 0.72) <= high
        yield Row(f"bootstrap 95 % interval, mean of skewed losses, difference, n={n}", held / rows, rows, COVERS)


def check_effect_sizes(scale: float) -> Iterator[Row]:
    """Coverage of the intervals of effect sizes."""
    sets = round(4000 * scale)
    exact = (0.94, 0.99)
    for n in (7600, 500):
        p = np.array([0.905, 0.037, 0.019, 0.039])
        true = (p[1] - p[2], p[1] / p[2], p[1] / (p[1] + p[2]) - 0.5, p[0] + p[1])
        held = np.zeros(4)
        for counts in np.random.default_rng(n).multinomial(n, p, size=sets).tolist():
            sizes = effect_sizes(PairedCounts(*counts))
            effects = (sizes.risk_difference, sizes.discordant_odds_ratio, sizes.cohens_g)
            effects += (accuracy_interval(counts[0] + counts[1], n),)
            held += [effect.low <= value <= effect.high for effect, value in zip(effects, true, strict=True)]
        names = ("risk difference", "discordant odds ratio", "Cohen's g", "accuracy (Wilson)")
        for index, name in enumerate(names):
            is_exact = index in (1, 2)
            note = "exact interval: conservative" if is_exact else ""
            yield Row(f"95 % interval, {name}, n={n}", held[index] / sets, sets, exact if is_exact else COVERS, note)


def check_mcnemar(scale: float) -> Iterator[Row]:
    """Rejection rates of McNemar's variants under the null, and power against its prediction."""
    sets = round(100_000 * scale)
    rng = np.random.default_rng(11)
    for n in (7600, 500):
        counts = rng.multinomial(n, [0.905, 0.028, 0.028, 0.039], size=sets)
        for method in ("mid_p", "uncorrected", "exact", "corrected"):
            rate = float(np.mean(mcnemar_p_values(counts[:, 1], counts[:, 2], method) <= 0.05))
            conservative = method in ("exact", "corrected")
            note = "conservative by construction" if conservative else ""
            yield Row(f"McNemar {method}, null, n={n}", rate, sets, (0.02, 0.051) if conservative else REJECTS, note)
    found = smallest_detectable_difference(7600, 0.056, power=0.8).detectable
    p = [0.905, 0.028 + found / 2, 0.028 - found / 2, 0.039]
    counts = rng.multinomial(7600, p, size=sets)
    rate = float(np.mean(mcnemar_p_values(counts[:, 1], counts[:, 2], "mid_p") <= 0.05))
    yield Row(f"McNemar mid_p, power at the detectable difference ({100 * found:.2f} points)", rate, sets, (0.78, 0.82))


def check_randomisation(scale: float) -> Iterator[Row]:
    """Rejection rates of approximate randomisation under the null."""
    cells, sets = population(null=True), round(4000 * scale)
    for n, metric in ((7600, "macro_f1"), (500, "macro_f1"), (500, "mcc")):
        rejected = 0
        for index, arrays in enumerate(data_sets(cells, n, sets, seed=n + 1)):
            test = randomisation_test(*arrays, metric, swaps=999, seed=index, class_names=CLASSES)
            rejected += test.p_value <= 0.05
        yield Row(f"approximate randomisation, {metric}, null, n={n}", rejected / sets, sets, REJECTS)
    family = 0
    for arrays in data_sets(cells, 2000, sets, seed=5):
        family += min(test.p_holm for test in mcnemar_by_class(*arrays, CLASSES)) <= 0.05
    yield Row("McNemar by class + Holm, any rejection, null, n=2000", family / sets, sets, (0.02, 0.06), "family-wise")


def equal_models(
    rng: np.random.Generator, n: int, k: int, models: int, lopsided: bool = False
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return true classes (n,) and answers of models with equal macro-F1 in the population and dependent errors.

    Args:
        rng: Random numbers.
        n: Rows.
        k: Classes.
        models: Models.
        lopsided: Every other model is good where the others are bad: answers are not exchangeable, only the score is
            the same. Else all are alike, and classes have unequal shares.
    """
    share = np.ones(k) if lopsided else np.linspace(1, 2, k)
    truth, hard, answers = rng.choice(k, size=n, p=share / share.sum()), rng.normal(size=n), []
    for m in range(models):
        skill = 4.0 + (1.5 * (-1.0) ** (truth + m) if lopsided else 0.0) - 2 * hard + 1.5 * rng.normal(size=n)
        answers.append(np.where(skill > 0, truth, (truth + rng.integers(1, k, size=n)) % k))
    return truth, answers


def check_verdicts(scale: float) -> Iterator[Row]:
    """The verdict on macro-F1: its test and its interval where two models are equal, and equivalence at its margin."""
    rng = np.random.default_rng(41)
    for k, n, lopsided in ((4, 200, False), (4, 7600, False), (20, 200, False), (20, 7600, False), (4, 1000, True)):
        sets, names, found = round((1000 if k * n > 50_000 else 3000) * scale), tuple(map(str, range(k))), np.zeros(2)
        for index in range(sets):
            truth, (a, b) = equal_models(rng, n, k, 2, lopsided)
            test = randomisation_test(truth, a, b, "macro_f1", swaps=499, seed=index, class_names=names)
            pair = bootstrap_difference(truth, a, b, "macro_f1", resamples=1000, seed=index, class_names=names)
            low, high = pair.difference.percentile
            found += [test.p_value <= 0.05, low <= 0 <= high]
        what = f"macro-F1, {k} classes, n={n}" + (", good at different classes" if lopsided else "")
        yield Row(f"verdict (paired randomisation), {what}, null", found[0] / sets, sets, REJECTS)
        yield Row(f"its 95 % interval, {what}", found[1] / sets, sets, COVERS)
    cells, sets = population(null=False), round(2000 * scale)
    true = true_value(cells, "macro_f1", 0) - true_value(cells, "macro_f1", 1)
    for n in (500, 7600):
        claimed = 0
        for index, (truth, a, b) in enumerate(data_sets(cells, n, sets, seed=n + 2)):
            pair = bootstrap_difference(
                truth, a, b, "macro_f1", resamples=1000, seed=index, class_names=CLASSES, margin=true
            )
            claimed += max(pair.p_equivalent, difference_p_equivalent(paired_counts(truth, a, b), true)) <= 0.05
        what = f"equivalence (TOST) of macro-F1 claimed at the margin itself ({true:.4f}), n={n}"
        yield Row(what, claimed / sets, sets, (0.0, 0.06), "one bound binds; few rows claim nothing")


def check_families(scale: float) -> Iterator[Row]:
    """Simultaneous intervals of all pairs of five systems, and the set that should hold the best one."""
    rng, sets = np.random.default_rng(43), round(2000 * scale)
    for k, n in ((4, 200), (4, 2000), (20, 1000)):
        names, held, single, missed = tuple(map(str, range(k))), 0, 0, 0
        for index in range(sets):
            truth, answers = equal_models(rng, n, k, 5)
            outputs = dict(zip("abcde", answers, strict=True))
            joint = joint_bootstrap(truth, outputs, "macro_f1", resamples=500, seed=index, class_names=names)
            pairs = list(itertools.combinations("abcde", 2))
            held += all(low <= 0 <= high for low, high in joint.differences(pairs))
            single += all(low <= 0 <= high for pair in pairs for low, high in joint.differences([pair]))
            missed += "a" not in joint.best_set()
        what = f"5 equal systems, macro-F1, {k} classes, n={n}"
        yield Row(f"max-T intervals, all 10 pairs at once, {what}", held / sets, sets, COVERS)
        yield Row(f"   intervals of one pair each, {what}", single / sets, sets, None, "for comparison: not adjusted")
        yield Row(f"best set without a best system, {what}", missed / sets, sets, REJECTS)


def check_few_errors(scale: float) -> Iterator[Row]:
    """Intervals of a model that makes hardly an error: none in a third of the sets or more."""
    rng, sets = np.random.default_rng(47), round(4000 * scale)
    for n, right in ((31, 0.97), (200, 0.995)):
        held = np.zeros(2)
        for _ in range(sets):
            truth = np.arange(n) % 4
            given = np.where(rng.random(n) < right, truth, (truth + 1) % 4)
            for place, metric in enumerate(("accuracy", "macro_f1")):  # with equal classes both are ``right``
                low, high = metric_interval(truth, given, metric, CLASSES, resamples=300)
                held[place] += low <= right <= high
        yield Row(f"interval of accuracy {right:g} (Wilson), n={n}", held[0] / sets, sets, (0.92, 0.99))
        note = "exact without errors, bootstrap with some"
        yield Row(f"interval of macro-F1 {right:g}, n={n}", held[1] / sets, sets, None, note)


def check_clusters(scale: float) -> Iterator[Row]:
    """How often intervals over 60 customers of 10 rows hold the accuracy of the population, and those over rows."""
    rng, sets, names = np.random.default_rng(31), round(2000 * scale), np.repeat(np.arange(60), 10)
    held = np.zeros(2)
    for index in range(sets):
        truth = rng.integers(0, 2, len(names))
        right = rng.random(len(names)) < rng.beta(1.6, 0.4, 60)[names]
        given = np.where(right, truth, 1 - truth)
        over = bootstrap_metric(truth, given, "accuracy", resamples=1000, seed=index, clusters=names).percentile
        alone = bootstrap_metric(truth, given, "accuracy", resamples=1000, seed=index).percentile
        held += [low <= 0.8 <= high for low, high in (over, alone)]
    yield Row("bootstrap over 60 clusters of 10 rows, accuracy", held[0] / sets, sets, (0.93, 0.97))
    yield Row("   the same over rows", held[1] / sets, sets, None, "for comparison: rows are not independent")
    found = np.zeros(4)
    for index in range(sets):  # two models, equal in the population, each with customers that it is good at
        truth = rng.integers(0, 2, len(names))
        a, b = (np.where(rng.random(len(names)) < rng.beta(1.6, 0.4, 60)[names], truth, 1 - truth) for _ in range(2))
        for place, clusters in enumerate((names, None)):
            test = randomisation_test(truth, a, b, "macro_f1", swaps=499, seed=index, clusters=clusters)
            pair = bootstrap_difference(truth, a, b, "macro_f1", resamples=500, seed=index, clusters=clusters)
            low, high = pair.difference.percentile
            found[2 * place : 2 * place + 2] += [test.p_value <= 0.05, low <= 0 <= high]
    what, note = "two equal models, 60 clusters of 10 rows, macro-F1", "for comparison: rows are not independent"
    yield Row(f"paired randomisation of whole clusters, {what}, null", found[0] / sets, sets, REJECTS)
    yield Row(f"paired bootstrap over clusters, {what}", found[1] / sets, sets, COVERS)
    yield Row("   randomisation of rows", found[2] / sets, sets, None, note)
    yield Row("   bootstrap over rows", found[3] / sets, sets, None, note)


def check_slices(scale: float) -> Iterator[Row]:
    """How often any of 7 slices of two columns is called different where none is."""
    rng, sets, called = np.random.default_rng(37), round(2000 * scale), 0
    for _ in range(sets):
        labels = rng.integers(0, 2, 1000)
        predicted = np.where(rng.random(1000) < 0.2, 1 - labels, labels)
        columns = {"a": rng.choice(list("pqrst"), 1000), "b": rng.choice(["x", "y"], 1000)}
        called += any(one.p_value <= 0.05 for one in score_slices(labels, predicted, columns))
    yield Row("slices, any of 7 called different, max-T by permutation", called / sets, sets, REJECTS)
    called = 0
    for _ in range(sets):  # few rows, few errors, columns that hang together
        lang = rng.choice(list("pqr"), 200)
        right = rng.random(200) < 0.9
        columns = {"lang": lang, "source": np.where(rng.random(200) < 0.9, lang, "z"), "x": rng.choice(["u", "v"], 200)}
        called += any(one.p_value <= 0.05 for one in score_slices(np.ones(200, int), right.astype(int), columns))
    yield Row("   of 200 rows, 20 errors, columns that hang together", called / sets, sets, REJECTS)

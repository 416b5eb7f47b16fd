"""Check the statistics library by simulation: do 95 % intervals cover 95 %, do 5 % tests reject 5 % under the null?

Data sets are drawn from populations whose true values are known. For each method the table gives the share of data
sets in which the interval held the true value, or in which the test rejected a true null hypothesis, with the
simulation's own standard error. "allowed" is the range that the method must keep to; methods that are known to be
conservative have a wider one, and rows without a range are there for comparison.

    python scripts/check_statistics.py            # some minutes, 1,000 to 20,000 data sets a row
    python scripts/check_statistics.py --scale 0.2

Exit code 1 when a row is out of its range; with a scale below 1, out by more than three standard errors.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from agnews_exp.evaluation import statistics as st
from agnews_exp.evaluation.calibration import calibration_test
from agnews_exp.evaluation.reliability import consistency_bars, reliability_curve
from agnews_exp.evaluation.statistics.margins import count_metric, margins_of_confusion

FloatArray = NDArray[np.float64]
COVERS = (0.93, 0.97)
REJECTS = (0.04, 0.06)
CLASSES = ("0", "1", "2", "3")


@dataclass(frozen=True)
class Row:
    """One line of the table: how often something happened, and how often it should."""

    what: str
    rate: float
    sets: int
    allowed: tuple[float, float] | None
    note: str = ""

    @property
    def error(self) -> float:
        """Standard error of the rate."""
        return math.sqrt(max(self.rate * (1 - self.rate), 1e-12) / self.sets)

    def kept(self, slack: float = 0.0) -> bool:
        """Whether the rate lies within ``slack`` standard errors of the allowed range."""
        if self.allowed is None:
            return True
        # At a rate near 0 or 1 the error is taken at the range's end, or a short run would have none.
        reach = slack * max(self.error, *(math.sqrt(p * (1 - p) / self.sets) for p in self.allowed))
        return self.allowed[0] - reach <= self.rate <= self.allowed[1] + reach


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
    """Coverage of percentile and BCa intervals."""
    cells, sets = population(null=False), round(1000 * scale)
    for n in (7600, 500):
        for metric in ("macro_f1", "accuracy", "mcc"):
            a, b = (true_value(cells, metric, model) for model in (0, 1))
            held = np.zeros(4)
            for index, arrays in enumerate(data_sets(cells, n, sets, seed=n)):
                pair = st.bootstrap_difference(*arrays, metric, resamples=2000, seed=index, class_names=CLASSES)
                intervals = (pair.difference.percentile, pair.difference.bca, pair.a.percentile, pair.a.bca)
                held += [
                    low <= value <= high for (low, high), value in zip(intervals, (a - b, a - b, a, a), strict=True)
                ]
            kinds = ("difference, percentile", "difference, BCa", "one model, percentile", "one model, BCa")
            for kind, count in zip(kinds, held, strict=True):
                yield Row(f"bootstrap 95 % interval, {metric}, {kind}, n={n}", count / sets, sets, COVERS)
    # Item losses as skewed as log-losses, correlated between the models. BCa estimates the skewness, and with few items
    # and tails this heavy (kurtosis 18) the estimate does harm: scipy.stats.bootstrap covers just as often.
    for n, allowed, note in ((7600, COVERS, ""), (500, (0.89, 0.97), "heavy tails: prefer percentile at this n")):
        rng, held = np.random.default_rng(n), np.zeros(2)
        rows = sets if n < 1000 else round(sets / 2)
        for index in range(rows):
            common, own = rng.normal(size=n), rng.normal(size=(2, n))
            losses = np.exp(1.2 * (0.8 * common + 0.6 * own) + np.array([[-1.0], [-0.8]]))
            pair = st.bootstrap_mean_difference(*losses, resamples=1000, seed=index)
            true = math.exp(-1 + 0.72) - math.exp(-0.8 + 0.72)
            held += [low <= true <= high for low, high in (pair.difference.percentile, pair.difference.bca)]
        what = "bootstrap 95 % interval, mean of skewed losses, difference"
        yield Row(f"{what}, percentile, n={n}", held[0] / rows, rows, COVERS)
        yield Row(f"{what}, BCa, n={n}", held[1] / rows, rows, allowed, note)


def check_effect_sizes(scale: float) -> Iterator[Row]:
    """Coverage of the intervals of effect sizes."""
    sets = round(4000 * scale)
    exact = (0.94, 0.99)
    for n in (7600, 500):
        p = np.array([0.905, 0.037, 0.019, 0.039])
        true = (p[1] - p[2], p[1] / p[2], p[1] / (p[1] + p[2]) - 0.5, (p[2] + p[3]) / (p[1] + p[3]), p[0] + p[1])
        held = np.zeros(5)
        for counts in np.random.default_rng(n).multinomial(n, p, size=sets).tolist():
            sizes = st.effect_sizes(st.PairedCounts(*counts))
            effects = (sizes.risk_difference, sizes.discordant_odds_ratio, sizes.cohens_g, sizes.error_rate_ratio)
            effects += (st.accuracy_interval(counts[0] + counts[1], n),)
            held += [effect.low <= value <= effect.high for effect, value in zip(effects, true, strict=True)]
        names = ("risk difference", "discordant odds ratio", "Cohen's g", "error-rate ratio", "accuracy (Wilson)")
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
            rate = float(np.mean(st.mcnemar_p_values(counts[:, 1], counts[:, 2], method) <= 0.05))
            conservative = method in ("exact", "corrected")
            note = "conservative by construction" if conservative else ""
            yield Row(f"McNemar {method}, null, n={n}", rate, sets, (0.02, 0.051) if conservative else REJECTS, note)
    found = st.smallest_detectable_difference(7600, 0.056, power=0.8).detectable
    p = [0.905, 0.028 + found / 2, 0.028 - found / 2, 0.039]
    counts = rng.multinomial(7600, p, size=sets)
    rate = float(np.mean(st.mcnemar_p_values(counts[:, 1], counts[:, 2], "mid_p") <= 0.05))
    yield Row(f"McNemar mid_p, power at the detectable difference ({100 * found:.2f} points)", rate, sets, (0.78, 0.82))


def check_randomisation(scale: float) -> Iterator[Row]:
    """Rejection rates of approximate randomisation and of the bootstrap's p-value under the null."""
    cells, sets = population(null=True), round(4000 * scale)
    for n, metric in ((7600, "macro_f1"), (500, "macro_f1"), (500, "mcc")):
        rejected = np.zeros(2)
        for index, arrays in enumerate(data_sets(cells, n, sets, seed=n + 1)):
            p_random = st.randomisation_test(*arrays, metric, swaps=999, seed=index, class_names=CLASSES).p_value
            p_boot = st.bootstrap_difference(*arrays, metric, resamples=999, seed=index, class_names=CLASSES).p_value
            rejected += np.array([p_random, p_boot]) <= 0.05
        yield Row(f"approximate randomisation, {metric}, null, n={n}", rejected[0] / sets, sets, REJECTS)
        yield Row(f"bootstrap p-value, {metric}, null, n={n}", rejected[1] / sets, sets, REJECTS)
    family = 0
    for arrays in data_sets(cells, 2000, sets, seed=5):
        family += min(test.p_holm for test in st.mcnemar_by_class(*arrays, CLASSES)) <= 0.05
    yield Row("McNemar by class + Holm, any rejection, null, n=2000", family / sets, sets, (0.02, 0.06), "family-wise")


def check_folds(scale: float) -> Iterator[Row]:
    """Nadeau-Bengio under its own model, and in real cross-validations."""
    sets, k = round(10_000 * scale), 10
    rng = np.random.default_rng(7)
    rejected = np.zeros(3)
    for _ in range(sets):  # fold differences with the correlation 1/k that the correction assumes
        scores = math.sqrt(1 / k) * rng.normal() + math.sqrt(1 - 1 / k) * rng.normal(size=k)
        test = st.corrected_t_test(scores, np.zeros(k))
        rejected += [test.p_value <= 0.05, test.naive_p_value <= 0.05, test.interval[0] <= 0 <= test.interval[1]]
    yield Row("Nadeau-Bengio t, 10 folds, correlation as assumed, null", rejected[0] / sets, sets, REJECTS)
    yield Row("   plain paired t-test on the same folds", rejected[1] / sets, sets, None, "for comparison: misleads")
    yield Row("Nadeau-Bengio 95 % interval, same", rejected[2] / sets, sets, COVERS)
    sets = round(1000 * scale)
    for repeats in (1, 5):
        rejected = np.zeros(2)
        for _ in range(sets):
            scores = _cross_validate(rng, n=200, n_features=8, k=k, repeats=repeats)
            test = st.corrected_t_test(*scores, test_train_ratio=1 / (k - 1))
            rejected += [test.p_value <= 0.05, test.naive_p_value <= 0.05]
        where = f"real CV of two equal learners, {repeats} x {k} folds, null"
        yield Row(f"Nadeau-Bengio t, {where}", rejected[0] / sets, sets, (0.0, 0.06), "approximate: conservative here")
        yield Row(
            "   plain paired t-test on the same folds", rejected[1] / sets, sets, None, "for comparison: misleads"
        )
    for folds in (5, 10):
        rejected = np.zeros(3)
        for _ in range(sets):
            scores = _cross_validate(rng, n=200, n_features=8, k=folds, repeats=1, models=3)
            found = st.compare_folds(dict(zip("abc", scores, strict=True)), "accuracy")
            assert found.friedman is not None
            wilcoxon = found.pairs[0].wilcoxon
            any_pair = min(pair.p_holm for pair in found.pairs)
            rejected += [any_pair <= 0.05, found.friedman.p_value <= 0.05, wilcoxon and wilcoxon.p_value <= 0.05]
        where = f"real CV of three equal learners, {folds} folds, null"
        yield Row(f"Nadeau-Bengio t + Holm, any pair, {where}", rejected[0] / sets, sets, (0.0, 0.06), "family-wise")
        note = "for comparison: folds are not independent blocks"
        yield Row("   Friedman over the same folds", rejected[1] / sets, sets, None, note)
        yield Row("   Wilcoxon of one pair over the same folds", rejected[2] / sets, sets, None, note)


def check_seeds(scale: float) -> Iterator[Row]:
    """Welch's test and interval over seeds, with unequal spreads."""
    rng, sets = np.random.default_rng(23), round(10_000 * scale)
    for n_a, n_b, spread in ((5, 5, 3.0), (3, 10, 1.0)):
        rejected = np.zeros(2)
        for _ in range(sets):
            test = st.welch_test(rng.normal(size=n_a), spread * rng.normal(size=n_b))
            rejected += [test.p_value <= 0.05, test.interval[0] <= 0 <= test.interval[1]]
        what = f"{n_a} and {n_b} seeds, spread 1 and {spread:g}"
        few = min(n_a, n_b) < st.blocks.FEW_SEEDS
        note = "too easily with few seeds: compare says so" if few else ""
        yield Row(f"Welch t, {what}, null", rejected[0] / sets, sets, (0.04, 0.07) if few else REJECTS, note)
        yield Row(f"Welch 95 % interval, {what}", rejected[1] / sets, sets, COVERS)


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
    """Friedman, Nemenyi and Wilcoxon under the null."""
    rng = np.random.default_rng(13)
    sets = round(2000 * scale)
    n_blocks, k = 20, 5
    rejected = np.zeros(4)
    for _ in range(sets):
        test = st.friedman_test(rng.normal(size=(n_blocks, 1)) + rng.normal(size=(n_blocks, k)))
        pairs = np.array(test.nemenyi_p_values)
        apart = np.ptp(test.mean_ranks) >= test.critical_difference
        rejected += [test.p_value <= 0.05, test.iman_davenport_p_value <= 0.05, pairs.min() <= 0.05, apart]
    names = ("Friedman chi-square", "Friedman, Iman-Davenport F", "Nemenyi, any pair", "critical difference, any pair")
    for index, name in enumerate(names):
        allowed = REJECTS if index == 1 else (0.03, 0.06)
        note = "" if index == 1 else "slightly conservative at few blocks"
        yield Row(f"{name}, {k} models, {n_blocks} blocks, null", rejected[index] / sets, sets, allowed, note)
    sets = round(10_000 * scale)
    for n in (10, 25):
        count = sum(st.wilcoxon_test(rng.normal(size=n), np.zeros(n)).p_value <= 0.05 for _ in range(sets))
        yield Row(f"Wilcoxon signed rank, {n} blocks, null", count / sets, sets, REJECTS)


def check_multiplicity(scale: float) -> Iterator[Row]:
    """Holm's family-wise error rate and the false discovery rate of Benjamini-Hochberg."""
    rng, sets = np.random.default_rng(17), round(20_000 * scale)
    holm, discoveries, unadjusted = 0, 0.0, 0
    for _ in range(sets):
        z = rng.normal(size=20)
        null = 2 * scipy_stats.norm.sf(np.abs(z[:10]))
        holm += st.adjust(null, "holm").min() <= 0.05
        unadjusted += null.min() <= 0.05
        z[10:] += 3.0  # ten true effects
        found = st.adjust(2 * scipy_stats.norm.sf(np.abs(z)), "benjamini_hochberg") <= 0.05
        discoveries += found[:10].sum() / max(1, found.sum())
    yield Row("Holm, any of 10 true nulls rejected", holm / sets, sets, REJECTS, "family-wise error rate")
    yield Row("   without adjustment", unadjusted / sets, sets, None, "for comparison: misleads")
    note = "false discovery rate; theory says 10/20 of .05"
    yield Row("Benjamini-Hochberg, 10 true nulls of 20", discoveries / sets, sets, (0.02, 0.03), note)


def check_calibration(scale: float) -> Iterator[Row]:
    """Test of calibration on labels drawn from the probabilities themselves."""
    rng, sets = np.random.default_rng(19), round(2000 * scale)
    rejected = np.zeros(2)
    for index in range(sets):
        probabilities = rng.dirichlet(np.full(4, 0.3), size=1000)
        labels = (rng.random((1000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(0, 3)
        for column, binning in enumerate(("equal_width", "equal_mass")):
            test = calibration_test(labels, probabilities, binning=binning, simulations=199, seed=index)
            rejected[column] += test.p_value <= 0.05
    for column, binning in enumerate(("equal_width", "equal_mass")):
        yield Row(f"calibration test, {binning}, calibrated model, n=1000", rejected[column] / sets, sets, REJECTS)
    inside, bins = 0, 0
    for index in range(round(sets / 4)):
        forecasts = rng.beta(2, 1, size=1000)
        curve = reliability_curve(forecasts, rng.random(1000) < forecasts, 10)
        low, high = consistency_bars(forecasts, curve, simulations=400, seed=index)
        used = curve.count >= 20
        inside += int(np.sum((low <= curve.frequency)[used] & (curve.frequency <= high)[used]))
        bins += int(used.sum())
    yield Row("consistency bars, bins of a calibrated model, n=1000", inside / bins, bins, COVERS)


CHECKS: tuple[Callable[[float], Iterator[Row]], ...] = (
    check_bootstrap,
    check_effect_sizes,
    check_mcnemar,
    check_randomisation,
    check_folds,
    check_seeds,
    check_ranks,
    check_multiplicity,
    check_calibration,
)


def main() -> int:
    """Run all checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of data sets of every row")
    parser.add_argument("--only", nargs="+", default=[], help="names of checks, such as mcnemar ranks")
    arguments = parser.parse_args()
    print("| method | rate | s.e. | data sets | allowed | |")
    print("|---|---:|---:|---:|---|---|")
    kept = True
    started = time.perf_counter()
    for check in CHECKS:
        if arguments.only and check.__name__.removeprefix("check_") not in arguments.only:
            continue
        for row in check(arguments.scale):
            allowed = f"{row.allowed[0]:.3f} to {row.allowed[1]:.3f}" if row.allowed else ""
            inside = row.kept(slack=0.0 if arguments.scale >= 1 else 3.0)
            mark = row.note if inside else f"OUT OF RANGE {row.note}"
            print(f"| {row.what} | {row.rate:.4f} | {row.error:.4f} | {row.sets} | {allowed} | {mark} |", flush=True)
            kept = kept and inside
    print(f"\n{time.perf_counter() - started:.0f} s; {'all within range' if kept else 'SOME OUT OF RANGE'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

"""Calibration and prediction sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from agnews_exp.evaluation.calibration import calibration_test, error_interval
from agnews_exp.evaluation.conformal import METHODS, prediction_sets, set_thresholds
from agnews_exp.evaluation.reliability import consistency_bars, reliability_curve
from statistics_checks.rows import COVERS, REJECTS, FloatArray, Row


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


def check_ece(scale: float) -> Iterator[Row]:
    """How often the interval of the ECE holds that of the population, for confidences right, wrong and in part so."""
    rng, sets, bins = np.random.default_rng(53), round(2000 * scale), np.linspace(0, 1, 16)
    kinds: dict[str, Callable[[FloatArray], FloatArray]] = {
        "calibrated": lambda c: c, "too sure by .02": lambda c: c - 0.02, "by 15 %": lambda c: 0.25 + (c - 0.25) * 0.85,
        "only above .95": lambda c: np.where(c > 0.95, c - 0.03, c),
    }  # fmt: skip
    for name, chance in kinds.items():
        sure = 0.25 + 0.75 * rng.beta(5, 1, 2_000_000)
        where = np.searchsorted(bins, sure).clip(1, 15)
        truth = float(np.abs(np.bincount(where, np.clip(chance(sure), 0, 1) - sure)).sum()) / len(sure)
        for n in (200, 1000, 7600):
            held = 0
            for index in range(sets):
                confidence = 0.25 + 0.75 * rng.beta(5, 1, n)
                right = rng.random(n) < chance(confidence)
                matrix = np.column_stack([confidence, *[(1 - confidence) / 3.0] * 3])
                low, high = error_interval(np.where(right, 0, 1), matrix, simulations=500, seed=index)
                held += low <= truth <= high
            yield Row(
                f"ECE, 95 % interval, {name} ({truth:.4f}), n={n}", held / sets, sets, (0.93, 1.0), "careful above"
            )


def check_conformal(scale: float) -> Iterator[Row]:
    """How often conformal sets of 95 % hold the true class of new rows, over calibration sets of a model too sure."""
    rng, sets, n, k = np.random.default_rng(29), round(1000 * scale), 600, 4
    for method in METHODS:
        held = np.zeros(2)
        for index in range(sets):
            labels = rng.choice(k, 2 * n, p=np.arange(1, k + 1) / 10)
            scores = rng.normal(size=(2 * n, k)) * (1 + np.arange(k)) / 2
            scores[np.arange(2 * n), labels] += 1.5
            odds = np.exp(3 * scores)
            probabilities = odds / odds.sum(axis=1, keepdims=True)
            thresholds = set_thresholds(labels[:n], probabilities[:n], 0.95, method)
            right = prediction_sets(probabilities[n:], thresholds, method, index + 1)[np.arange(n), labels[n:]]
            held += right.mean(), right[labels[n:] == 0].mean()
        allowed = (0.94, 0.97 if method == "class" else 0.96)
        yield Row(f"conformal sets of 95 %, {method}, {n} rows to calibrate on", held[0] / sets, sets, allowed)
        note = "the promise is of each class" if method == "class" else "no promise of single classes"
        only = (0.94, 0.99) if method == "class" else None
        yield Row(f"   of the rarest class, {method}", held[1] / sets, sets, only, note)

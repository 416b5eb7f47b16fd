"""Tests of calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agnews_exp.evaluation.calibration import calibration_test
from agnews_exp.evaluation.reliability import consistency_bars, reliability_curve
from statistics_checks.rows import COVERS, REJECTS, Row


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

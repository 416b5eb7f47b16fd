"""Power laws fitted to learning curves: against scipy, and how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.learning_curve import fit_power_law

ROWS = np.array([250, 500, 1000, 2000, 4000, 8000])


def law(n, c=0.93, a=1.2, b=0.4):
    return c - a * np.asarray(n, dtype=float) ** -b


def test_a_curve_without_noise_is_found_as_scipy_finds_it() -> None:
    from scipy.optimize import curve_fit

    rng = np.random.default_rng(0)
    for noise in (0.0, 0.001):
        scores = law(ROWS) + noise * rng.standard_normal(len(ROWS))
        found = fit_power_law(ROWS, scores, np.full(len(ROWS), 0.001))
        (c, a, b), _ = curve_fit(law, ROWS, scores, p0=(0.9, 1.0, 0.5))
        assert found.doubled == pytest.approx(law(16000, c, a, b), abs=3e-4)
        needed = (a / (c - law(8000, c, a, b) - 0.01)) ** (1 / b)
        assert found.rows == pytest.approx(needed, rel=0.1)
        assert found.doubled_low <= found.doubled <= found.doubled_high


def test_the_interval_of_the_score_at_twice_the_rows_holds_it_in_some_95_percent_of_curves() -> None:
    rng, held, trials = np.random.default_rng(1), 0, 200
    errors = 0.4 / np.sqrt([1500] * len(ROWS)) * np.linspace(1, 0.6, len(ROWS))
    for _ in range(trials):
        found = fit_power_law(ROWS, law(ROWS) + errors * rng.standard_normal(len(ROWS)), errors, resamples=200)
        held += found.doubled_low <= law(16000) <= found.doubled_high
    assert 0.90 <= held / trials <= 0.99


def test_a_flat_curve_never_gets_better_and_three_points_are_too_few() -> None:
    found = fit_power_law(ROWS, np.full(len(ROWS), 0.9), np.full(len(ROWS), 1e-6))
    assert found.rows == found.rows_high == np.inf
    assert found.doubled == pytest.approx(0.9, abs=1e-4)
    with pytest.raises(DataError, match="4 numbers of rows"):
        fit_power_law(ROWS[:3], law(ROWS[:3]), np.full(3, 0.01))

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.calibration import (
    calibration_report,
    calibration_test,
    classwise_errors,
    confidences,
    error_interval,
    expected_calibration_error,
)
from agnews_exp.evaluation.reliability import consistency_bars, draw_hits, reliability_curve


def draw(seed=0, n=1000, k=4, sharpness=0.5, temperature=1.0):
    """Return labels drawn from p, and p made too sure (temperature below 1) or too modest (above)."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, sharpness), size=n)
    y = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
    told = p ** (1 / temperature)
    return y, told / told.sum(axis=1, keepdims=True)


# Validation bins of the published transformer: items, mean confidence, accuracy.
STUDY_BINS = [
    (3, 0.372, 0.333),
    (29, 0.470, 0.379),
    (240, 0.553, 0.554),
    (276, 0.655, 0.591),
    (381, 0.754, 0.693),
    (657, 0.856, 0.752),
    (16414, 0.9917, 0.9736),
]


def test_the_published_bins_give_the_published_ece():
    forecasts = np.concatenate([np.full(count, confidence) for count, confidence, _ in STUDY_BINS])
    outcomes = np.concatenate([np.arange(count) < round(count * share) for count, _, share in STUDY_BINS])
    curve = reliability_curve(forecasts, outcomes, n_bins=10)
    assert curve.expected_error == pytest.approx(0.0228, abs=1e-4)
    assert curve.count.tolist() == [0, 0, 0, 3, 29, 240, 276, 381, 657, 16414]
    assert curve.maximum_error == pytest.approx(0.104, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l1", "max"])
@pytest.mark.parametrize("n_bins", [7, 15])
def test_ece_and_mce_equal_torchmetrics(norm, n_bins):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    y, p = draw(1, temperature=0.6)
    theirs = functional.multiclass_calibration_error(
        torch.tensor(p), torch.tensor(y), num_classes=4, n_bins=n_bins, norm=norm
    )
    curve = reliability_curve(*confidences(y, p), n_bins)
    ours = curve.expected_error if norm == "l1" else curve.maximum_error
    assert ours == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(("binning", "strategy"), [("equal_width", "uniform"), ("equal_mass", "quantile")])
def test_the_curve_equals_scikit_learn(binning, strategy):
    rng = np.random.default_rng(2)
    forecasts = rng.random(1001)  # its quantiles are items, so both put the same items in each bin
    outcomes = rng.random(1001) < forecasts**1.5
    frequency, mean = calibration_curve(outcomes, forecasts, n_bins=10, strategy=strategy)
    curve = reliability_curve(forecasts, outcomes, 10, binning)
    tolerance = 1e-12 if binning == "equal_width" else 0.011  # one item may fall on either side of a quantile
    assert curve.frequency == pytest.approx(frequency, abs=tolerance)
    assert curve.mean_forecast == pytest.approx(mean, abs=tolerance)


def test_equal_mass_bins_hold_equally_many_items_and_keep_equal_forecasts_together():
    forecasts = np.random.default_rng(3).random(150)
    curve = reliability_curve(forecasts, np.ones(150), 15, "equal_mass")
    assert curve.count.tolist() == [10] * 15
    sure = np.concatenate([np.full(90, 1.0), np.linspace(0.5, 0.9, 10)])
    tied = reliability_curve(sure, np.ones(100), 5, "equal_mass")
    assert tied.count.tolist() == [10, 90]
    zeros = np.concatenate([np.zeros(70), np.linspace(0.1, 0.9, 30)])
    assert reliability_curve(zeros, np.zeros(100), 10, "equal_mass").count.tolist() == [70, 10, 10, 10]


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
@pytest.mark.parametrize("value", [0.0, 0.2, 1 / 3, 0.6, 1.0])
def test_forecasts_on_an_edge_fall_in_one_bin(binning, value):
    curve = reliability_curve(np.full(8, value), np.ones(8), 5, binning)
    assert curve.count.sum() == 8
    assert np.count_nonzero(curve.count) == 1
    at = int(curve.count.argmax())
    assert curve.lower[at] - 1e-12 <= value <= curve.upper[at] + 1e-12
    assert curve.expected_error == pytest.approx(1 - value)


def test_an_equally_wide_bin_holds_its_upper_edge_and_not_its_lower_one():
    curve = reliability_curve([0.0, 0.25, 0.5, 0.75, 1.0], np.ones(5), 4)
    assert curve.count.tolist() == [2, 1, 1, 1]


def test_frequencies_carry_wilson_intervals():
    y, p = draw(4)
    curve = reliability_curve(*confidences(y, p), 15)
    used = curve.count > 0
    low, high = proportion_confint(curve.hits[used], curve.count[used], method="wilson")
    assert curve.frequency_low[used] == pytest.approx(low, abs=1e-9)
    assert curve.frequency_high[used] == pytest.approx(high, abs=1e-9)


def test_classwise_error_by_hand_in_equal_width_and_equal_mass():
    y, p = draw(5, n=600, temperature=0.7)
    for k in range(4):
        outcome = (y == k).astype(float)
        by_width = sum(
            np.abs(np.sum(outcome[rows] - p[rows, k])) for rows in (np.ceil(p[:, k] * 15) == b for b in range(1, 16))
        )
        assert classwise_errors(y, p, 15)[k] == pytest.approx(by_width / 600)
        order = np.argsort(p[:, k])
        by_mass = np.mean([np.abs(np.mean(outcome[part] - p[part, k])) for part in np.array_split(order, 15)])
        assert classwise_errors(y, p, 15, "equal_mass")[k] == pytest.approx(by_mass)  # Nixon's definition


def test_overconfidence_shows_and_calibration_passes():
    sure, fair = draw(6, n=4000, temperature=0.4), draw(6, n=4000)
    assert calibration_report(*sure).overconfidence > 0.03
    assert expected_calibration_error(*sure) > 2 * expected_calibration_error(*fair)
    assert calibration_test(*sure).p_value < 0.01
    assert calibration_test(*fair).p_value > 0.05


def test_the_ece_of_a_calibrated_model_is_not_zero_and_the_test_says_how_large():
    values = [expected_calibration_error(*draw(seed, n=500)) for seed in range(200)]
    expected = calibration_test(*draw(0, n=500)).expected_when_calibrated
    assert np.mean(values) > 0.02
    assert expected == pytest.approx(np.mean(values), rel=0.1)


def test_a_report_gathers_the_figures_and_is_plain_json():
    y, p = draw(7, temperature=0.7)
    report = calibration_report(y, p, ["World", "Sports", "Business", "Sci/Tech"], n_bins=10, simulations=200)
    right = p.argmax(axis=1) == y
    assert report.accuracy == pytest.approx(right.mean())
    assert report.ece == pytest.approx(expected_calibration_error(y, p, 10)) == report.test.ece
    assert report.ece_equal_mass == pytest.approx(expected_calibration_error(y, p, 10, "equal_mass"))
    assert report.ace == pytest.approx(classwise_errors(y, p, 10, "equal_mass").mean())
    assert report.classwise_ece == pytest.approx(np.mean(list(report.classwise_ece_by_class.values())))
    assert report.mce >= report.ece
    text = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert len(text["reliability"]["count"]) == 10
    assert text["reliability"]["frequency"][0] is None  # no confidence is below 1/4: an empty bin


def test_a_perfect_and_certain_model_has_no_error():
    y = np.array([0, 1, 2, 3] * 5)
    report = calibration_report(y, np.eye(4)[y], simulations=100)
    assert (report.ece, report.mce, report.ace, report.classwise_ece) == (0, 0, 0, 0)
    assert report.test.p_value == 1.0


def test_bad_requests_are_refused():
    y, p = draw(8, n=20)
    with pytest.raises(ConfigError, match="Did you mean 'equal_mass'"):
        expected_calibration_error(y, p, 10, "equal-mass")
    with pytest.raises(DataError, match="n_bins must be at least 1"):
        expected_calibration_error(y, p, 0)
    with pytest.raises(DataError, match="4 columns, but there are 5 class names"):
        calibration_report(y, p, list("abcde"))
    with pytest.raises(DataError, match="at least 100"):
        calibration_test(y, p, simulations=5)


def test_consistency_bars_are_quantiles_of_the_binomial_where_forecasts_are_equal():
    forecasts = np.repeat([0.25, 0.7, 0.95], [200, 500, 1000])
    curve = reliability_curve(forecasts, np.ones(1700), 10)
    low, high = consistency_bars(forecasts, curve, level=0.9, simulations=4000)
    used = curve.count > 0
    n, p = curve.count[used], curve.mean_forecast[used]
    assert low[used] == pytest.approx(stats.binom.ppf(0.05, n, p) / n, abs=1.01 / n.min())
    assert high[used] == pytest.approx(stats.binom.ppf(0.95, n, p) / n, abs=1.01 / n.min())
    assert np.isnan(low[~used]).all()


def test_drawn_hits_have_the_mean_and_variance_of_unequal_forecasts():
    forecasts = np.random.default_rng(9).random(600)
    curve = reliability_curve(forecasts, np.zeros(600), 5)
    hits = draw_hits(forecasts, curve, 4000, seed=1)
    bins = np.clip(np.ceil(forecasts * 5).astype(int) - 1, 0, 4)
    assert hits.mean(axis=0) == pytest.approx(np.bincount(bins, forecasts), rel=0.02)
    assert hits.var(axis=0) == pytest.approx(np.bincount(bins, forecasts * (1 - forecasts)), rel=0.12)


def test_the_interval_of_the_ece_holds_zero_for_calibrated_models_and_leaves_it_out_for_others():
    """A percentile bootstrap would never hold 0, as chance alone makes gaps."""
    for temperature, n, held in ((1.0, 1000, True), (1.0, 200, True), (0.5, 1000, False)):
        zero = 0
        for seed in range(20):
            y, p = draw(seed, n=n, temperature=temperature)
            low, high = error_interval(y, p, simulations=200)
            assert 0 <= low <= expected_calibration_error(y, p) <= high <= 1
            zero += low == 0
        assert (zero >= 16) if held else (zero == 0)
    report = calibration_report(y, p, simulations=100)
    assert report.ece_interval[0] < report.ece < report.ece_interval[1]
    wide, narrow = (error_interval(*draw(1, n=n, temperature=0.5)) for n in (500, 20_000))
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 3

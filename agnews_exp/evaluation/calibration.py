"""Calibration of probabilities: how far confidence and accuracy lie apart, and a test of the difference.

Confidence is the largest class probability. A model is calibrated in this sense when, of the items to which it
gives confidence c, a share c is right. Estimates from bins are biased upwards, the more so the more bins and the
fewer items there are: :func:`calibration_test` gives the value that a perfectly calibrated model would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.inputs import FloatArray, Result
from agnews_exp.evaluation.metrics import names_of_classes
from agnews_exp.evaluation.proper_scores import (
    BrierDecomposition,
    brier_decomposition,
    labelled_probabilities,
    negative_log_likelihood,
    one_hot,
)
from agnews_exp.evaluation.reliability import Binning, ReliabilityCurve, bin_numbers, draw_hits, reliability_curve


@dataclass(frozen=True)
class CalibrationTest(Result):
    """Test of the null hypothesis that the confidences are the true chances of being right."""

    ece: float  # observed expected calibration error
    expected_when_calibrated: float  # its mean when outcomes are drawn with the forecast confidences: the bias
    p_value: float  # share of such draws with an error at least as large, one added to both counts
    simulations: int


@dataclass(frozen=True, eq=False)
class CalibrationReport(Result):
    """Calibration of one model's probabilities on labelled items."""

    n_items: int
    n_bins: int
    accuracy: float  # share of items whose most likely class is right
    mean_confidence: float  # mean of the largest probability
    overconfidence: float  # mean confidence minus accuracy; negative for a diffident model
    nll: float  # negative log-likelihood, nats per item
    brier: BrierDecomposition  # Brier score with its decomposition
    ece: float  # expected calibration error of the confidence, equally wide bins (Guo et al. 2017).
    ece_interval: tuple[float, float]  # its 95 % interval, see :func:`error_interval`
    ece_equal_mass: float  # the same with bins of equally many items
    mce: float  # maximum calibration error, equally wide bins; one item in an odd bin can decide it
    ace: float  # adaptive calibration error: mean gap over classes and bins of equally many items (Nixon et al. 2019).
    # Mean over classes of the error of each class's probability, equally wide bins (Kull et al. 2019).
    classwise_ece: float
    classwise_ece_by_class: dict[str, float]  # that error by class name
    test: CalibrationTest  # test of calibration, on the equally wide bins
    reliability: ReliabilityCurve  # the confidence's reliability curve, equally wide bins


def confidences(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return each item's largest probability and whether its class is the true one, both shape (n,)."""
    truth, matrix = labelled_probabilities(y_true, probabilities)
    return matrix.max(axis=1), matrix.argmax(axis=1) == truth


def expected_calibration_error(
    y_true: ArrayLike, probabilities: ArrayLike, n_bins: int = 15, binning: Binning = "equal_width"
) -> float:
    """Return the ECE of the confidence: the mean gap of confidence and accuracy over bins (Naeini et al. 2015)."""
    return reliability_curve(*confidences(y_true, probabilities), n_bins, binning).expected_error


def classwise_errors(
    y_true: ArrayLike, probabilities: ArrayLike, n_bins: int = 15, binning: Binning = "equal_width"
) -> FloatArray:
    """Return the calibration error of each class's probability, one against rest, shape (K,).

    Its mean is the class-wise ECE (equal width) or the adaptive calibration error ACE (equal mass).
    """
    truth, matrix = labelled_probabilities(y_true, probabilities)
    outcomes = one_hot(truth, matrix.shape[1])
    columns = range(matrix.shape[1])
    curves = [reliability_curve(matrix[:, c], outcomes[:, c], n_bins, binning) for c in columns]
    return np.array([curve.expected_error for curve in curves])


def calibration_test(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    n_bins: int = 15,
    binning: Binning = "equal_width",
    *,
    simulations: int = 1000,
    seed: int = 0,
) -> CalibrationTest:
    """Test whether the ECE is larger than chance gives a calibrated model (consistency resampling).

    Outcomes are drawn with the forecast confidences (Broecker and Smith 2007), at least 100 times, and the ECE is taken
    anew. Class indices have shape (n,), probabilities (n, K).
    """
    confidence, right = confidences(y_true, probabilities)
    curve = reliability_curve(confidence, right, n_bins, binning)
    expected = np.nan_to_num(curve.mean_forecast * curve.count, nan=0.0)
    errors = np.abs(draw_hits(confidence, curve, simulations, seed) - expected).sum(axis=1) / len(confidence)
    ece = curve.expected_error
    at_least = int(np.sum(errors >= ece - 1e-12))
    return CalibrationTest(ece, float(errors.mean()), (1 + at_least) / (1 + simulations), simulations)


def error_interval(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    n_bins: int = 15,
    *,
    level: float = 0.95,
    simulations: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return an interval of the ECE that other rows of this kind would show without end, bins of equal width held.

    The ECE of n rows is a sum of |D_b| / n over bins, D_b being the sum of (right - confidence), and chance makes it
    larger, most where the model is calibrated: resampled rows double that bias, so that the percentile bootstrap never
    holds an ECE of 0. Here D_b is drawn from the normal distribution with the variance that its rows show.

    - Lower end: 0 where calibrated confidences would show as much (at 5 %). Else the ECE less the quantile of what
      chance adds where the gaps are those seen in bins that show one (two standard errors), and none in the others.
    - Upper end: the ECE and a normal quantile of its standard error, whose bias is left in. It is a careful one.

    Class indices have shape (n,), probabilities (n, K). The interval holds at least some 94 % (scripts/
    check_statistics.py).
    """
    confidence, right = confidences(y_true, probabilities)
    n, bins = len(confidence), bin_numbers(confidence, n_bins)
    gaps = right - confidence
    total = np.bincount(bins, gaps, n_bins)
    spread = np.sqrt(np.maximum(np.bincount(bins, gaps**2, n_bins) - total**2 / n, 0.0))
    ece, noise = float(np.abs(total).sum() / n), np.random.default_rng(seed).normal(size=(simulations, n_bins)) * spread
    low = 0.0
    if ece > float(np.quantile(np.abs(noise).sum(axis=1) / n, level)):
        sure = np.where(np.abs(total) > 2 * spread, np.abs(total), 0.0)
        added = (np.abs(sure + noise).sum(axis=1) - sure.sum()) / n
        low = min(ece, max(0.0, ece - float(np.quantile(added, (1 + level) / 2))))
    reach = float(special.ndtri((1 + level) / 2)) * float(np.sqrt(np.sum(spread**2))) / n
    return low, min(1.0, ece + reach)


def calibration_report(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    n_bins: int = 15,
    simulations: int = 1000,
    seed: int = 0,
) -> CalibrationReport:
    """Return all calibration figures of one model; class indices have shape (n,), probabilities (n, K)."""
    truth, matrix = labelled_probabilities(y_true, probabilities)
    names = names_of_classes(np.array([matrix.shape[1] - 1]), class_names=class_names)
    if len(names) != matrix.shape[1]:
        raise DataError(f"probabilities has {matrix.shape[1]} columns, but there are {len(names)} class names")
    confidence, right = confidences(truth, matrix)
    wide = reliability_curve(confidence, right, n_bins)
    by_class = classwise_errors(truth, matrix, n_bins)
    accuracy, mean_confidence = float(right.mean()), float(confidence.mean())
    return CalibrationReport(
        n_items=len(truth),
        n_bins=n_bins,
        accuracy=accuracy,
        mean_confidence=mean_confidence,
        overconfidence=mean_confidence - accuracy,
        nll=negative_log_likelihood(truth, matrix),
        brier=brier_decomposition(truth, matrix, n_bins),
        ece=wide.expected_error,
        ece_interval=error_interval(truth, matrix, n_bins, simulations=simulations, seed=seed),
        ece_equal_mass=reliability_curve(confidence, right, n_bins, "equal_mass").expected_error,
        mce=wide.maximum_error,
        ace=float(classwise_errors(truth, matrix, n_bins, "equal_mass").mean()),
        classwise_ece=float(by_class.mean()),
        classwise_ece_by_class=dict(zip(names, by_class.tolist(), strict=True)),
        test=calibration_test(truth, matrix, n_bins, simulations=simulations, seed=seed),
        reliability=wide,
    )

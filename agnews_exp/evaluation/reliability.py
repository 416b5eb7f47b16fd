"""Forecast probabilities against what happened, by bin: the data of reliability diagrams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import DataError, unknown_name
from agnews_exp.evaluation.inputs import FloatArray, Result, open_interval

Binning = Literal["equal_width", "equal_mass"]

MAX_ELEMENTS = 4_000_000


@dataclass(frozen=True, eq=False)
class ReliabilityCurve(Result):
    """Forecasts and outcomes by bin: the data of a reliability diagram and of a confidence histogram."""

    # Shape (B,), lower edge of each bin; a bin holds lower < forecast <= upper (the first also its lower edge). Empty
    # bins stay, with NaN means.
    lower: FloatArray
    upper: FloatArray  # shape (B,), upper edges
    count: NDArray[np.int64]  # shape (B,), forecasts in the bin
    hits: NDArray[np.int64]  # shape (B,), how many of them came true (items predicted right, for confidences)
    mean_forecast: FloatArray  # shape (B,), mean forecast
    frequency: FloatArray  # shape (B,), ``hits / count`` (accuracy, for confidences)
    frequency_low: FloatArray  # shape (B,), lower end of its 95 % Wilson interval
    frequency_high: FloatArray  # shape (B,), upper end

    @property
    def gaps(self) -> FloatArray:
        """Shape (B,), |frequency - mean forecast|; 0 in empty bins."""
        gaps: FloatArray = np.nan_to_num(np.abs(self.frequency - self.mean_forecast), nan=0.0)
        return gaps

    @property
    def expected_error(self) -> float:
        """Mean gap, weighted by count: the expected calibration error (ECE) for confidences."""
        return float(np.average(self.gaps, weights=self.count))

    @property
    def maximum_error(self) -> float:
        """The largest gap (MCE)."""
        return float(np.max(self.gaps))


def _edges(forecasts: FloatArray, n_bins: int, binning: Binning) -> FloatArray:
    if n_bins < 1:
        raise DataError(f"n_bins must be at least 1, got {n_bins}")
    if binning == "equal_width":
        return np.linspace(0.0, 1.0, n_bins + 1)
    if binning != "equal_mass":
        raise unknown_name("binning", binning, ["equal_width", "equal_mass"])
    # Ideal cuts move to the nearest place between two different forecasts: saturated models give many equal ones,
    # which stay together, so there may be fewer bins.
    ordered = np.sort(forecasts)
    places = np.flatnonzero(np.diff(ordered) > 0) + 1
    if len(places) == 0:
        return np.array([0.0, 1.0])
    ideal = np.arange(1, n_bins) * len(ordered) / n_bins
    after = np.clip(np.searchsorted(places, ideal), 0, len(places) - 1)
    before = np.maximum(after - 1, 0)
    cuts = np.unique(np.where(ideal - places[before] < places[after] - ideal, places[before], places[after]))
    below, above = ordered[cuts - 1], ordered[cuts]
    middle = (below + above) / 2
    return np.concatenate([[0.0], np.where(middle < above, middle, below), [1.0]])


def _bin_of(forecasts: FloatArray, edges: FloatArray) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, forecasts, side="left") - 1, 0, len(edges) - 2)


def bin_numbers(forecasts: FloatArray, n_bins: int) -> NDArray[np.int64]:
    """Return the bin of equal width of each of n forecasts, 0 to n_bins - 1, shape (n,)."""
    return _bin_of(forecasts, _edges(forecasts, n_bins, "equal_width"))


def reliability_curve(
    forecasts: ArrayLike, outcomes: ArrayLike, n_bins: int = 15, binning: Binning = "equal_width"
) -> ReliabilityCurve:
    """Return n forecasts and whether each came true, by bin of equal width or of equally many items.

    Forecasts are probabilities: the confidence, or those of one class. Equal ones stay together.
    """
    values = np.asarray(forecasts, dtype=np.float64)
    came_true = np.asarray(outcomes, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or values.shape != came_true.shape:
        raise DataError(f"forecasts and outcomes must be as long as each other, got {values.shape}, {came_true.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("forecasts must be probabilities between 0 and 1")
    edges = _edges(values, n_bins, binning)
    bins, n = _bin_of(values, edges), len(edges) - 1
    count = np.bincount(bins, minlength=n)
    hits = np.bincount(bins, came_true, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_forecast, frequency = np.bincount(bins, values, n) / count, hits / count
        z = 1.959963984540054
        centre = (hits + z**2 / 2) / (count + z**2)
        reach = z / (count + z**2) * np.sqrt(hits * (1 - frequency) + z**2 / 4)
    return ReliabilityCurve(
        lower=edges[:-1],
        upper=edges[1:],
        count=count.astype(np.int64),
        hits=hits.astype(np.int64),
        mean_forecast=mean_forecast,
        frequency=frequency,
        frequency_low=np.maximum(0.0, centre - reach),
        frequency_high=np.minimum(1.0, centre + reach),
    )


def draw_hits(forecasts: ArrayLike, curve: ReliabilityCurve, simulations: int, seed: int) -> FloatArray:
    """Return for each of S >= 100 simulated outcomes of the forecasts how many came true by bin, shape (S, B)."""
    if simulations < 100:
        raise DataError(f"simulations must be at least 100, got {simulations}")
    ordered = np.sort(np.asarray(forecasts, dtype=np.float64), kind="stable")
    used = curve.count > 0  # bins are runs of the ordered forecasts, summed with one reduceat
    starts = np.concatenate([[0], np.cumsum(curve.count[used])[:-1]])
    rng = np.random.default_rng(seed)
    hits = np.zeros((simulations, len(curve.count)))
    step = max(1, min(simulations, MAX_ELEMENTS // len(ordered)))
    for start in range(0, simulations, step):
        rows = min(step, simulations - start)
        drawn = (rng.random((rows, len(ordered)), dtype=np.float32) < ordered).astype(np.float32)
        hits[start : start + rows, used] = np.add.reduceat(drawn, starts, axis=1)
    return hits


def consistency_bars(
    forecasts: ArrayLike, curve: ReliabilityCurve, *, level: float = 0.95, simulations: int = 1000, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Return the range, lower and upper ends of shape (B,), of each bin's frequency if the forecasts were calibrated.

    Consistency bars after Broecker and Smith (2007), with the bins of ``curve`` held fixed; NaN in empty bins. A
    frequency outside its bar is a deviation that chance does not explain; with B bins some 5 % of the bars are missed
    by chance.
    """
    open_interval(level, "level")
    with np.errstate(invalid="ignore"):
        frequencies = draw_hits(forecasts, curve, simulations, seed) / curve.count
    tail = (1 - level) / 2
    low, high = np.quantile(frequencies, np.array([tail, 1 - tail]), axis=0)
    return low, high

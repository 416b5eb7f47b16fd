"""The input that a calibrator takes from a model's answers, and calibrators stored as JSON parameters.

A model of any family answers with decision scores, probabilities or both. :func:`score_source` says which of them a
calibrator is fitted on and what the probabilities without a calibrator are. :class:`ScoreCalibration` keeps that
choice together with the fitted calibrator, so that whoever loads it cannot feed it the wrong thing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agnews_exp.core.errors import DataError, StorageError
from agnews_exp.core.files import atomic_path
from agnews_exp.evaluation.calibrators import CALIBRATORS, Calibrator, log_probabilities, softmax
from agnews_exp.evaluation.inputs import FloatArray, plain, probability_matrix
from agnews_exp.evaluation.predictions import Predictions

ScoreSource = Literal["decision_scores", "log_probabilities"]
NONE = "none"
"""Name of the choice to leave the probabilities as they are."""

_FORMAT = 1
_DERIVED = frozenset({"classes_", "n_features_in_"})


def score_source(predictions: Predictions) -> ScoreSource:
    """Return which part of a model's answers a calibrator takes.

    Decision scores, unless there are none or the probabilities are their softmax: such scores mean something only
    beside each other, and one-against-rest calibrators need them normalised.

    Raises:
        DataError: There are neither scores nor probabilities.
    """
    if predictions.scores is None and predictions.probabilities is None:
        raise DataError(
            "the model gives labels only, neither scores nor probabilities: there is nothing to calibrate",
            fix="use a model with decision_function or predict_proba, such as model=logreg",
        )
    if predictions.scores is None:
        return "log_probabilities"
    if predictions.probabilities is None:
        return "decision_scores"
    alike = np.allclose(softmax(predictions.scores), predictions.probabilities, atol=1e-4)
    return "log_probabilities" if alike else "decision_scores"


def scores_for_calibration(predictions: Predictions, source: ScoreSource) -> FloatArray:
    """Return the scores that a calibrator takes, shape (n, K).

    Raises:
        DataError: The answers lack what ``source`` names.
    """
    values = predictions.scores if source == "decision_scores" else predictions.probabilities
    if values is None:
        raise DataError(f"the calibrator takes {source}, but the model's answers have none")
    return log_probabilities(values) if source == "log_probabilities" else np.asarray(values, dtype=np.float64)


def uncalibrated(predictions: Predictions) -> tuple[FloatArray, str]:
    """Return the probabilities without a calibrator, shape (n, K), and their description in words.

    The model's own, or the softmax of its decision scores where it has no others. The latter was never meant as a
    probability (a margin has no unit), so its calibration error says nothing about the model.
    """
    if predictions.probabilities is not None:
        return probability_matrix(predictions.probabilities), "the model's probabilities"
    return softmax(scores_for_calibration(predictions, score_source(predictions))), "softmax of decision scores"


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """A chosen calibrator with the part of a model's answers that it takes."""

    name: str  # a key of ``CALIBRATORS``, or ``none``
    source: ScoreSource  # the part of the model's answers that it takes
    calibrator: Calibrator | None  # the fitted calibrator; None for ``none``
    class_names: tuple[str, ...]

    def probabilities(self, predictions: Predictions) -> FloatArray:
        """Return calibrated probabilities of n answers, shape (n, K).

        Raises:
            DataError: The answers lack the scores that the calibrator was fitted on.
        """
        if self.calibrator is None:
            return uncalibrated(predictions)[0]
        return self.calibrator.predict_proba(scores_for_calibration(predictions, self.source))

    def apply(self, predictions: Predictions) -> Predictions:
        """Return the answers with calibrated probabilities, and with their most likely classes as labels.

        Without a calibrator the labels stay the model's own.
        """
        probabilities = self.probabilities(predictions)
        labels = predictions.labels if self.calibrator is None else probabilities.argmax(axis=1)
        return replace(predictions, labels=labels, probabilities=probabilities)


def calibrator_to_json(calibrator: Calibrator) -> dict[str, Any]:
    """Return a fitted calibrator's name and parameters as plain values.

    Raises:
        DataError: Its class is not among ``CALIBRATORS``.
    """
    names = [name for name, kind in CALIBRATORS.items() if type(calibrator) is kind]
    if not names:
        raise DataError(f"{type(calibrator).__name__} is not one of {', '.join(CALIBRATORS)}")
    fitted = {k: plain(v) for k, v in vars(calibrator).items() if k.endswith("_") and k not in _DERIVED}
    return {"name": names[0], "n_classes": int(calibrator.n_features_in_), "parameters": fitted}


def calibrator_from_json(content: Mapping[str, Any]) -> Calibrator:
    """Return the calibrator that :func:`calibrator_to_json` described.

    Raises:
        StorageError: The content is not what that function writes.
    """
    try:
        calibrator = CALIBRATORS[content["name"]]()
        k, parameters = int(content["n_classes"]), dict(content["parameters"])
        calibrator.seen_ = np.asarray(parameters.pop("seen_", range(k)), dtype=np.int64)
        if not np.array_equal(np.unique(calibrator.seen_), calibrator.seen_) or not set(calibrator.seen_) <= {
            *range(k)
        }:
            raise ValueError(f"seen_={calibrator.seen_}")
        for name, value in parameters.items():
            setattr(calibrator, name, _restored(name, value, len(calibrator.seen_)))
        calibrator.classes_, calibrator.n_features_in_ = np.arange(k), k
        calibrator.predict_proba(np.zeros((1, k)))  # all parameters present, of the right shape
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"not the parameters of a calibrator: {error!r}") from error
    return calibrator


def _restored(name: str, value: Any, k: int) -> Any:
    if name == "temperature_":
        if not 0 < float(value) < np.inf:
            raise ValueError(f"temperature_={value}")
        return float(value)
    rows = [np.asarray(row, dtype=np.float64) for row in value]
    if len(rows) != k or not all(np.isfinite(row).all() for row in rows):
        raise ValueError(f"{name} must hold {k} finite entries")
    return rows if rows[0].ndim else np.array(rows)


def save_calibrator(path: Path, chosen: ScoreCalibration) -> None:
    """Write a calibrator as JSON parameters, no code."""
    content: dict[str, Any] = {"format": _FORMAT, "name": chosen.name, "source": chosen.source}
    content["class_names"] = list(chosen.class_names)
    content["calibrator"] = None if chosen.calibrator is None else calibrator_to_json(chosen.calibrator)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load_calibrator(path: Path) -> ScoreCalibration:
    """Read a calibrator that :func:`save_calibrator` wrote (``<run>/analysis/calibration/calibrator.json``).

    Raises:
        StorageError: There is no such file, or it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored, names = content["calibrator"], tuple(map(str, content["class_names"]))
        if content["format"] != _FORMAT or content["source"] not in ("decision_scores", "log_probabilities"):
            raise ValueError(f"format {content['format']}, source {content['source']}")
        if stored is not None and len(names) != stored["n_classes"]:
            raise ValueError(f"{len(names)} class names for {stored['n_classes']} classes")
        calibrator = None if stored is None else calibrator_from_json(stored)
        return ScoreCalibration(str(content["name"]), content["source"], calibrator, names)
    except FileNotFoundError as error:
        raise StorageError(f"There is no calibrator at {path}.", fix="agnews calibrate <run>") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, StorageError) as error:
        raise StorageError(f"{path} is damaged: {error}", fix="agnews calibrate <run>") from error

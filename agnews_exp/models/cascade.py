"""Two models as one: a cascade (the accurate one is asked only where the fast one is unsure), or a blend of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.core.errors import StorageError
from agnews_exp.evaluation.inputs import FloatArray
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.routing import Target
from agnews_exp.evaluation.score_calibration import ScoreCalibration, load_calibrator, save_calibrator
from agnews_exp.models.answers import FittedModel, predictions_of
from agnews_exp.models.persistence import read_manifest, write_manifest

PARTS = ("fast", "accurate")
_SETTINGS = "cascade.json"


@dataclass(frozen=True)
class _OfTwo:
    """The settings of ``model=cascade`` and ``model=blend`` alike."""

    fast: str | None = None  # a finished run (name, folder, MLflow id); a cascade's answers first
    accurate: str | None = None  # another one; a cascade's answers where the first is unsure
    # Share of the validation rows that calibrators or weights are fitted on: on training rows both models look better
    # than they are.
    fit_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    # Of the machine, in any currency; costs are given per million texts.
    price_per_hour: Annotated[float, Field(ge=0)] = 0.0
    timing_rows: Annotated[int, Field(ge=1)] = 256  # validation texts on which both models are timed


@dataclass(frozen=True)
class Cascade(_OfTwo):
    """The settings of ``model=cascade``; validation rows that calibrators are not fitted on choose the threshold."""

    target: Target = "accuracy_floor"  # what the threshold is chosen for, on validation rows
    # The target's number: an accuracy, a share of the texts, a cost, or a confidence.
    value: Annotated[float, Field(ge=0)] = 0.92
    # Makes both models' confidences comparable.
    calibrator: Literal["none", "platt", "isotonic", "temperature", "vector"] = "temperature"


@dataclass(frozen=True)
class Blend(_OfTwo):
    """The settings of ``model=blend``: a logistic regression on both models' log-probabilities."""

    C: Annotated[float, Field(gt=0)] = 1.0  # inverse strength of the L2 penalty


@dataclass(eq=False)
class _Pair:
    """Two fitted models and what makes their answers comparable."""

    fast: FittedModel  # answers every text
    accurate: FittedModel  # a cascade's answers the texts that are handed over, a blend's every text
    calibrations: tuple[ScoreCalibration, ScoreCalibration]  # of both, in this order

    family: ClassVar[str] = "cascade"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.fast.class_names


@dataclass(eq=False)
class CascadeModel(_Pair):
    """A fitted cascade."""

    threshold: float  # calibrated confidence below which a text is handed over

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer n texts; probabilities are the calibrated ones of the model that answered."""
        first = self.calibrations[0].apply(self.fast.predict(texts))
        asked = self.asked(first)
        if not asked.any():
            return routed(first, first, asked)
        answer = self.accurate.predict([texts[int(i)] for i in np.flatnonzero(asked)])
        second = _spread(self.calibrations[1].apply(answer), asked)
        if answer.unparsed is not None:  # a language model's answer that is no class: the fast model's stays
            asked[asked] = ~answer.unparsed
        return routed(first, second, asked)

    def asked(self, first: Predictions) -> NDArray[np.bool_]:
        """Return the rows whose calibrated answer of the fast model is not trusted; shape (n,), bool."""
        return np.asarray(confidence(first) < self.threshold, dtype=np.bool_)


@dataclass(eq=False)
class BlendModel(_Pair):
    """A fitted blend."""

    coefficients: FloatArray  # shape (2 K, K), float64, from the log-probabilities of both
    intercepts: FloatArray  # shape (K,), float64

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Return the answers for n texts, from both models' answers."""
        return self.combined(self.fast.predict(texts), self.accurate.predict(texts))

    def combined(self, one: Predictions, other: Predictions) -> Predictions:
        """Return the answers that the blend makes of both models' answers."""
        return predictions_of(blend_inputs(self.calibrations, one, other) @ self.coefficients + self.intercepts)


def confidence(answer: Predictions) -> FloatArray:
    """Return the probability of each answer that was given; shape (n,), float64."""
    assert answer.probabilities is not None, "calibrated answers have probabilities"
    return np.asarray(answer.probabilities[np.arange(len(answer)), answer.labels], dtype=np.float64)


def routed(first: Predictions, second: Predictions, asked: NDArray[np.bool_]) -> Predictions:
    """Return the first model's answers, and the second's where ``asked``, shape (n,), bool, is true."""
    assert first.probabilities is not None
    assert second.probabilities is not None
    probabilities = np.where(asked[:, None], second.probabilities, first.probabilities)
    return Predictions(np.where(asked, second.labels, first.labels).astype(np.int64), None, probabilities)


def _spread(answer: Predictions, asked: NDArray[np.bool_]) -> Predictions:
    """Return answers for all n rows, with those given for the asked rows in their places and zeros elsewhere."""
    assert answer.probabilities is not None
    labels = np.zeros(len(asked), dtype=np.int64)
    probabilities = np.zeros((len(asked), answer.probabilities.shape[1]))
    labels[asked], probabilities[asked] = answer.labels, answer.probabilities
    return Predictions(labels, None, probabilities)


def blend_inputs(
    calibrations: tuple[ScoreCalibration, ScoreCalibration], one: Predictions, other: Predictions
) -> FloatArray:
    """Return the log-probabilities of both models side by side; shape (n, 2 K), float64."""
    from agnews_exp.evaluation.calibrators import log_probabilities

    both = zip(calibrations, (one, other), strict=True)
    return np.hstack([log_probabilities(c.probabilities(answer), floor=1e-6) for c, answer in both])


def save_cascade(model: CascadeModel | BlendModel, folder: Path, sources: tuple[Path, Path]) -> None:
    """Copy both models' folders, and write their calibrators and how they are combined."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, source, calibration in zip(PARTS, sources, model.calibrations, strict=True):
        shutil.copytree(source, folder / part)
        save_calibrator(folder / f"{part}_calibrator.json", calibration)
    settings: dict[str, Any] = (
        {"kind": "cascade", "threshold": model.threshold if np.isfinite(model.threshold) else None}
        if isinstance(model, CascadeModel)
        else {"kind": "blend", "coefficients": model.coefficients.tolist(), "intercepts": model.intercepts.tolist()}
    )
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    write_manifest(folder, "cascade", model.class_names)


def load_cascade(folder: Path, load: Callable[[Path], FittedModel]) -> CascadeModel | BlendModel:
    """Load what :func:`save_cascade` wrote; ``load`` loads its two models."""
    read_manifest(folder, "cascade", needs=[_SETTINGS])
    fast, accurate = (load(folder / part) for part in PARTS)
    if fast.class_names != accurate.class_names:
        raise StorageError(f"{folder}: its two models have different classes.", fix="train it again (force=true)")
    one, other = (load_calibrator(folder / f"{part}_calibrator.json") for part in PARTS)
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        if settings["kind"] == "cascade":
            threshold = np.inf if settings["threshold"] is None else float(settings["threshold"])
            return CascadeModel(fast, accurate, (one, other), threshold)
        coefficients, intercepts = np.asarray(settings["coefficients"]), np.asarray(settings["intercepts"])
        k = len(fast.class_names)
        if coefficients.shape != (2 * k, k) or intercepts.shape != (k,):
            raise ValueError(f"coefficients of shape {coefficients.shape} for {k} classes")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(f"{folder / _SETTINGS} is damaged: {error!r}", fix="train it again (force=true)") from error
    return BlendModel(fast, accurate, (one, other), coefficients, intercepts)

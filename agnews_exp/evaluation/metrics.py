"""The register of metrics: how answers are judged, which values are better, and under which keys they are stored.

All readers of a metric go through this module: the judge of every run, objectives and their directions, early
stopping, comparisons with their bootstrap, leaderboards, reports and MLflow. A metric of the user's own
(:func:`metric`, ``evaluation.metrics``) is an entry like the others.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import ConfigError, DataError, unknown_name
from agnews_exp.core.suggestions import nearest
from agnews_exp.evaluation.inputs import FloatArray, same_length
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import MULTICLASS, Task, TaskName, task_of

if TYPE_CHECKING:
    from agnews_exp.config.schema import EvaluationConfig

# --- counts: all that metrics of labels need ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Margins:
    """Class counts of one table of answers or of a stack of tables."""

    hits: FloatArray  # shape (..., K), items of class k that were predicted as k
    support: FloatArray  # shape (..., K), items whose true class is k
    predicted: FloatArray  # shape (..., K), items predicted as k

    @property
    def total(self) -> FloatArray:
        """Shape (...,), number of items."""
        total: FloatArray = self.support.sum(axis=-1)
        return total


CountMetric = Callable[[Margins], FloatArray]


def confusion_matrix(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Return shape (K, K) counts; rows are true classes, columns predicted ones."""
    return MULTICLASS.matrix(y_true, y_pred, n_classes)


def margins_of(y_true: ArrayLike, y_pred: ArrayLike, n_classes: int) -> Margins:
    """Return the class counts of one model's predictions: class indices, shape (n,), or sets, shape (n, K)."""
    task = task_of(y_true)
    truth, predicted = task.check(y_true, "y_true"), task.check(y_pred, "y_pred")
    same_length(y_true=truth, y_pred=predicted)
    if max(truth.max(), predicted.max()) >= n_classes:
        raise DataError(f"class index {max(truth.max(), predicted.max())} does not fit in {n_classes} classes")
    return Margins(*task.counts(truth, predicted, n_classes))


def margins_of_confusion(confusion: ArrayLike) -> Margins:
    """Return the class counts of confusion matrices, shape (..., K, K), rows true classes."""
    table = np.asarray(confusion, dtype=np.float64)
    return Margins(np.diagonal(table, axis1=-2, axis2=-1).copy(), table.sum(axis=-1), table.sum(axis=-2))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with 0/0 = 0 (scikit-learn's ``zero_division=0``)."""
    result: FloatArray = np.divide(
        numerator, denominator, out=np.zeros(np.broadcast(numerator, denominator).shape), where=denominator != 0
    )
    return result


def class_precision(margins: Margins) -> FloatArray:
    """Return precision by class, shape (..., K); 0 for a class that is never predicted."""
    return _ratio(margins.hits, margins.predicted)


def class_recall(margins: Margins) -> FloatArray:
    """Return recall by class, shape (..., K); 0 for a class without items."""
    return _ratio(margins.hits, margins.support)


def class_f1(margins: Margins) -> FloatArray:
    """Return F1 by class, shape (..., K); 0 for a class that neither occurs nor is predicted."""
    return _ratio(2 * margins.hits, margins.support + margins.predicted)


def accuracy(margins: Margins) -> FloatArray:
    """Return the share of items predicted right, shape (...,)."""
    return _ratio(margins.hits.sum(axis=-1), margins.total)


def macro_f1(margins: Margins) -> FloatArray:
    """Return the unweighted mean of the K classes' F1, shape (...,)."""
    value: FloatArray = class_f1(margins).mean(axis=-1)
    return value


def micro_f1(margins: Margins) -> FloatArray:
    """Return the F1 of all answers together, shape (...,): of one class a text, accuracy."""
    return _ratio(2 * margins.hits.sum(axis=-1), margins.support.sum(axis=-1) + margins.predicted.sum(axis=-1))


def cohen_kappa(margins: Margins) -> FloatArray:
    """Return Cohen's kappa (1960), the agreement beyond chance as a share of what is possible beyond chance.

    Shape (...,); 0 where one class alone occurs on both sides, so that nothing is possible beyond chance.
    """
    by_chance = margins.predicted[..., :, None] * margins.support[..., None, :]
    expected = _ratio(by_chance, margins.total[..., None, None]) * (1.0 - np.eye(margins.support.shape[-1]))
    disagreement = expected.sum(axis=(-2, -1))
    share = _ratio(margins.total - margins.hits.sum(axis=-1), disagreement)
    return np.where(disagreement > 0, 1.0 - share, 0.0)


def mcc(margins: Margins) -> FloatArray:
    """Return Matthews' correlation for K classes (Gorodkin 2004), shape (...,); 0 where a side has one class."""
    total = margins.total
    covariance = margins.hits.sum(axis=-1) * total - (margins.support * margins.predicted).sum(axis=-1)
    truth_variance = total**2 - (margins.support**2).sum(axis=-1)
    predicted_variance = total**2 - (margins.predicted**2).sum(axis=-1)
    return _ratio(covariance, np.sqrt(truth_variance * predicted_variance))


def log_loss(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], probabilities: FloatArray | None) -> float:
    """Return the mean of -ln p(true class) over n items, in nats; ``probabilities`` has shape (n, K)."""
    from sklearn.metrics import log_loss as mean_log_loss

    assert probabilities is not None, "the register asks only where there are probabilities"
    return float(mean_log_loss(y_true, probabilities, labels=np.arange(probabilities.shape[1])))


# --- sets of classes: truth and answers have shape (n, K), 0 and 1 -----------------------------------------------


def samples_f1(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], probabilities: FloatArray | None) -> float:
    """Return the mean of the n texts' own F1; 0 where a set is empty on both sides, as scikit-learn counts it."""
    sizes = (y_true.sum(axis=1) + y_pred.sum(axis=1)).astype(np.float64)
    return float(_ratio(2.0 * (y_true & y_pred).sum(axis=1), sizes).mean())


def samples_jaccard(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], probabilities: FloatArray | None) -> float:
    """Return the mean of the n texts' overlap, common classes by all classes; 0 where there are none on either side."""
    union = (y_true | y_pred).sum(axis=1).astype(np.float64)
    return float(_ratio((y_true & y_pred).sum(axis=1).astype(np.float64), union).mean())


def binary_log_loss(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], probabilities: FloatArray | None) -> float:
    """Return the mean over texts and classes of -ln p(what is so), in nats, as the mean of scikit-learn's by class."""
    assert probabilities is not None, "the register asks only where there are probabilities"
    tiny = np.finfo(probabilities.dtype).eps
    p = np.clip(probabilities, tiny, 1 - tiny)
    return float(-np.mean(np.where(y_true == 1, np.log(p), np.log1p(-p))))


def average_precisions(
    y_true: NDArray[np.int64], y_pred: NDArray[np.int64], probabilities: FloatArray | None
) -> FloatArray:
    """Return the average precision of each class, shape (K,); 0 for a class without texts."""
    from sklearn.metrics import average_precision_score

    assert probabilities is not None, "the register asks only where there are probabilities"
    columns = zip(y_true.T, probabilities.T, strict=True)
    return np.array([average_precision_score(t, p) if t.any() else 0.0 for t, p in columns])


# --- the register ------------------------------------------------------------------------------------------------

Direction = Literal["maximize", "minimize"]
RowScore = Callable[[NDArray[np.int64], NDArray[np.int64], FloatArray | None], float]
"""``(y_true (n,), y_pred (n,), probabilities (n, K) or None) -> float``; labels of sets of classes are (n, K)."""

ONE_CLASS: tuple[TaskName, ...] = ("multiclass",)
SETS: tuple[TaskName, ...] = ("multilabel",)
BOTH = ONE_CLASS + SETS


@dataclass(frozen=True)
class Metric:
    """A metric in the register: its function, its direction, and where it is shown."""

    name: str  # its key without the split, such as ``macro_f1``: lower-case letters, digits and ``_``
    title: str  # its name for people
    # Whatever ``score`` takes. ``counts``: :class:`Margins` -> shape (...,); ``classes``: Margins -> shape (..., K),
    # one value a class; ``labels`` and ``probabilities``: a :data:`RowScore`, without and with probabilities (models
    # that give none have no such metric); ``rankings``: like the latter, but of shape (K,).
    of: Literal["counts", "classes", "labels", "probabilities", "rankings"]
    score: Callable[..., Any]  # the function
    greater_is_better: bool = True  # whether more of it is better
    tasks: tuple[TaskName, ...] = BOTH  # the tasks that have it
    tracked: tuple[TaskName, ...] = ()  # of which tasks tables and MLflow get it; everything is in result.json
    target: str | None = None  # dotted path of a user's own metric, or None

    @property
    def by_class(self) -> bool:
        """Whether it is one value a class."""
        return self.of in ("classes", "rankings")


def _register(*metrics: Metric) -> Mapping[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS = _register(
    Metric("macro_f1", "macro-F1", "counts", macro_f1, tracked=BOTH),
    Metric("accuracy", "accuracy", "counts", accuracy, tasks=ONE_CLASS, tracked=ONE_CLASS),
    Metric(
        "weighted_f1",
        "weighted F1",
        "counts",
        lambda m: _ratio((class_f1(m) * m.support).sum(-1), m.total),
        tracked=ONE_CLASS,
    ),
    Metric("micro_f1", "micro-F1", "counts", micro_f1, tracked=SETS),
    Metric("samples_f1", "samples F1", "labels", samples_f1, tasks=SETS, tracked=SETS),
    Metric(
        "subset_accuracy",
        "exact sets (subset accuracy)",
        "labels",
        lambda y, p, _: float(np.mean((y == p).all(axis=1))),
        tasks=SETS,
        tracked=SETS,
    ),
    Metric("jaccard", "Jaccard index of sets", "labels", samples_jaccard, tasks=SETS, tracked=SETS),
    Metric(
        "hamming_loss",
        "Hamming loss",
        "labels",
        lambda y, p, _: float(np.mean(y != p)),
        greater_is_better=False,
        tasks=SETS,
        tracked=SETS,
    ),
    Metric("macro_precision", "macro precision", "counts", lambda m: class_precision(m).mean(-1)),
    Metric("macro_recall", "macro recall (balanced accuracy)", "counts", lambda m: class_recall(m).mean(-1)),
    Metric("cohen_kappa", "Cohen's kappa", "counts", cohen_kappa, tasks=ONE_CLASS, tracked=ONE_CLASS),
    Metric("mcc", "Matthews' correlation", "counts", mcc, tasks=ONE_CLASS, tracked=ONE_CLASS),
    Metric("log_loss", "log-loss", "probabilities", log_loss, False, ONE_CLASS, ONE_CLASS),
    Metric("binary_log_loss", "log-loss of each class", "probabilities", binary_log_loss, False, SETS, SETS),
    Metric(
        "mean_average_precision",
        "mean average precision",
        "probabilities",
        lambda y, given, p: float(average_precisions(y, given, p).mean()),
        tasks=SETS,
        tracked=SETS,
    ),
    Metric("average_precision", "average precision", "rankings", average_precisions, tasks=SETS),
    Metric("precision", "precision", "classes", class_precision),
    Metric("recall", "recall", "classes", class_recall),
    Metric("f1", "F1", "classes", class_f1),
)
"""The metrics of every run, by name; those that are shown come in the order of the tables."""

MEASURED: Mapping[str, bool] = MappingProxyType(
    {
        **dict.fromkeys(("time", "train_seconds", "latency", "cold_start_s", "model_size_mb"), False),
        **dict.fromkeys(("peak_memory_mb", "peak_gpu_memory_mb", "serving_rss_mb", "serving_gpu_mb"), False),
        **dict.fromkeys(("kwh_per_million", "cost", "cost_per_million", "padding_share", "loss", "errors"), False),
        **dict.fromkeys(("nll", "brier", "ece", "ece_equal_mass", "ace", "mce", "classwise_ece", "set_size"), False),
        **dict.fromkeys(("throughput", "train_samples_per_second", "train_tokens_per_second"), True),
        **dict.fromkeys(("train_macro_f1", "val_agreement", "auroc", "comprehensiveness"), True),
        **dict.fromkeys(("sufficiency", "unparsed", "tokens"), False),
    }
)
"""Whether more is better, for numbers of a record that no judge gives: costs, calibration, parts of analyses."""

_TRACKED_COSTS = (
    "throughput_batch", "latency_single_ms", "model_size_mb", "peak_memory_mb", "latency_p95_ms", "cost_per_1000",
    "cost_answers", "tokens_input", "tokens_output", "val/unparsed", "test/unparsed",
)  # fmt: skip
_SPLITS = ("train", "val", "test", "cv", "external")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")

Own = Sequence[Metric]
"""The user's own metrics of a run, beside those of the register."""

Function = TypeVar("Function", bound=Callable[..., Any])


def metric(
    *, greater_is_better: bool, title: str | None = None, needs: Literal["labels", "probabilities"] = "labels"
) -> Callable[[Function], Function]:
    """Mark a function ``(y_true, y_pred, probabilities) -> float`` as a metric, for ``evaluation.metrics``.

    Without a ``title`` the function's name is the one for people; where it ``needs`` no probabilities, it gets None in
    their place from models that give none.
    """

    def mark(function: Function) -> Function:
        attributes = {"greater_is_better": greater_is_better, "title": title or function.__name__, "needs": needs}
        function.__dict__.update(attributes)
        return function

    return mark


def own_metrics(paths: Sequence[str]) -> tuple[Metric, ...]:
    """Return the user's own metrics that ``evaluation.metrics`` names.

    Raises:
        ConfigError: A function is not trusted, not there, does not say what is better, or has the name of another.
    """
    from agnews_exp.config.targets import resolve_target

    found: dict[str, Metric] = {}
    for number, path in enumerate(paths):
        key = f"evaluation.metrics[{number}]"
        function = resolve_target(path, key)
        name = path.rpartition(".")[2]
        needs: Any = getattr(function, "needs", "labels")
        better = getattr(function, "greater_is_better", None)
        if not isinstance(better, bool) or needs not in ("labels", "probabilities"):
            raise ConfigError(
                f"{key}={path} does not say whether more of it is better, or what it needs.",
                fix="decorate it: @agnews_exp.evaluation.metrics.metric(greater_is_better=True)",
            )
        if name in METRICS or name in MEASURED or name in found or name.endswith("_std") or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{key}={path}: a metric's name is of lower-case letters, digits and _, does not end in _std, and is "
                "not that of another metric.",
                fix="rename the function",
            )
        title = str(getattr(function, "title", name))
        found[name] = Metric(name, title, needs, function, better, tracked=BOTH, target=path)
    return tuple(found.values())


def own_record(own: Own) -> dict[str, dict[str, Any]]:
    """Return the description of the user's own metrics in a record, so that later commands need not import them."""
    return {m.name: {"title": m.title, "greater_is_better": m.greater_is_better, "target": m.target} for m in own}


def headline(own: Iterable[str] = (), task: Task = MULTICLASS) -> tuple[str, ...]:
    """Return the names of the metrics that tables show, without splits: those of the register, then own ones."""
    return (*(name for name, entry in METRICS.items() if task.name in entry.tracked), *own)


def tracked_metrics(metrics: Mapping[str, float], own: Iterable[str] = (), task: Task = MULTICLASS) -> dict[str, float]:
    """Return those of a record's numbers that MLflow gets: the headline of validation, test and folds, and costs.

    ``own`` are further names without a split, such as those of the user's own metrics or of the objective.
    """
    names = [f"{split}/{name}" for split in ("val", "test", "cv") for name in headline(own, task)]
    wanted = dict.fromkeys([*names, "cv/macro_f1_std", "train/macro_f1", *_TRACKED_COSTS])
    return {name: float(metrics[name]) for name in wanted if name in metrics}


@dataclass(frozen=True)
class Choice:
    """One number among the results of :func:`judge`."""

    metric: Metric  # its metric
    class_name: str | None = None  # the class, for metrics of classes; else None

    @property
    def key(self) -> str | tuple[str, str]:
        """Its key in what :func:`judge` returns."""
        return self.metric.name if self.class_name is None else (self.metric.name, self.class_name)

    def stored_as(self, split: str, class_names: Sequence[str]) -> str:
        """Return its key in a record, such as ``val/f1/Sci_Tech``."""
        return next(iter(keyed({self.key: 0.0}, split, class_names)))


def find_metric(name: str, class_names: Sequence[str] | None = None, own: Own = (), task: Task = MULTICLASS) -> Choice:
    """Look up a metric by its name without the split: of the task's, an own one, or ``f1/`` and a class or its key.

    Without class names any word is a class, while the data are not known.

    Raises:
        ConfigError: The name is unknown; the message lists the known ones and the nearest.
    """
    known = {entry.name: entry for entry in (*METRICS.values(), *own) if task.name in entry.tasks}
    head, slash, tail = name.partition("/")
    entry = known.get(head)
    if entry is not None and bool(slash) == entry.by_class:
        if not slash:
            return Choice(entry)
        if class_names is None:
            return Choice(entry, tail)
        for wanted in (lambda c: c, lambda c: column_key(c, class_names)):  # a name itself goes before another's key
            for class_name in class_names:
                if wanted(class_name) == tail:
                    return Choice(entry, class_name)
    listed = [n for n, e in known.items() if not e.by_class]
    for kind in (n for n, e in known.items() if e.by_class):
        listed += [f"{kind}/{c}" for c in class_names] if class_names is not None else [f"{kind}/<class>"]
    raise unknown_name("metric", name, listed)


def find_objective(
    key: str, class_names: Sequence[str] | None = None, own: Own = (), task: Task = MULTICLASS
) -> Choice:
    """Look up an objective, a metric of validation rows or folds such as ``val/macro_f1`` or ``cv/f1/Greece``.

    Raises:
        ConfigError: It is no such metric; the message has the nearest.
    """
    split, _, name = key.partition("/")
    if split not in ("val", "cv"):
        raise ConfigError(
            f"evaluation.primary={key}: the objective is a metric of validation rows (val/) or of folds (cv/).",
            fix=f"evaluation.primary=val/{nearest(name or split, METRICS) or 'macro_f1'}",
        )
    try:
        return find_metric(name, class_names, own, task)
    except ConfigError as error:
        raise ConfigError(f"evaluation.primary={key}: {error.message}", fix=error.fix) from None


def check_metrics(
    evaluation: EvaluationConfig,
    labels: NDArray[np.int64] | None = None,
    class_names: Sequence[str] | None = None,
    task: Task = MULTICLASS,
) -> None:
    """Refuse an objective or an own metric that cannot be, before anything is trained.

    Own metrics are tried on the labels of the validation rows; None while the data are not known.

    Raises:
        ConfigError: The objective is not in the register, or one of the user's own metrics is not fit for use.
    """
    own = own_metrics(evaluation.metrics)
    find_objective(evaluation.primary, class_names, own, task)
    if own and labels is not None and class_names is not None:
        k = len(class_names)
        judge(labels, Predictions(np.roll(labels, 1, axis=0), None, np.full((len(labels), k), 1 / k)), class_names, own)


def direction(key: str, own: Mapping[str, bool] | None = None) -> Direction | None:
    """Return whether more or less of a number in a record, such as ``val/f1/Greece``, is better; None where neither is.

    ``own`` has ``greater_is_better`` of the user's own metrics, by name.
    """
    known = {**MEASURED, **{name: entry.greater_is_better for name, entry in METRICS.items()}, **(own or {})}
    head, _, tail = key.partition("/")
    name = (tail if head in _SPLITS and tail else key).partition("/")[0]
    if name.endswith("_std") and name not in known:
        return "minimize"  # a spread over folds
    while name not in known:
        name, underscore, _ = name.rpartition("_")  # ece_temperature is an ece, latency_p50_ms a latency
        if not underscore:
            return None
    return "maximize" if known[name] else "minimize"


def own_directions(result: Mapping[str, Any]) -> dict[str, bool]:
    """Return ``greater_is_better`` of a stored run's own metrics, by name."""
    return {name: bool(entry["greater_is_better"]) for name, entry in result.get("own_metrics", {}).items()}


# --- judging -----------------------------------------------------------------------------------------------------

Judgement = dict[str | tuple[str, str], float]
"""Values by metric, ``"macro_f1"``, or by metric and class name, ``("f1", "Sci/Tech")``."""


def judge(y_true: NDArray[np.int64], predictions: Predictions, class_names: Sequence[str], own: Own = ()) -> Judgement:
    """Return every metric that n >= 1 answers have, given the rows' labels of the same shape.

    Raises:
        ConfigError: One of the user's own metrics fails, or gives no finite number.
    """
    task, probabilities = predictions.task, predictions.probabilities
    margins = Margins(*task.counts(y_true, predictions.labels, len(class_names)))
    values: Judgement = {}
    for entry in (*METRICS.values(), *own):
        if task.name not in entry.tasks:
            continue
        if entry.of == "classes" or (entry.of == "rankings" and probabilities is not None):
            by_class = _by_class(entry, margins, y_true, predictions)
            values |= {(entry.name, name): float(by_class[i]) for i, name in enumerate(class_names)}
        elif entry.of == "counts":
            values[entry.name] = float(entry.score(margins))
        elif entry.of == "labels" or (entry.of == "probabilities" and probabilities is not None):
            values[entry.name] = score_rows(entry, y_true, predictions)
    return values


def score_choice(
    choice: Choice,
    margins: Margins,
    y_true: NDArray[np.int64],
    predictions: Predictions,
    class_names: Sequence[str],
) -> float:
    """Return one number of a judgement; arguments as for :func:`judge`, with the counts of the same answers."""
    entry = choice.metric
    if choice.class_name is not None:
        return float(_by_class(entry, margins, y_true, predictions)[list(class_names).index(choice.class_name)])
    return float(entry.score(margins)) if entry.of == "counts" else score_rows(entry, y_true, predictions)


def _by_class(entry: Metric, margins: Margins, y_true: NDArray[np.int64], predictions: Predictions) -> FloatArray:
    """Return a metric of classes, shape (K,)."""
    ranked = entry.of == "rankings"
    found: FloatArray = (
        entry.score(y_true, predictions.labels, predictions.probabilities) if ranked else entry.score(margins)
    )
    return found


def score_rows(entry: Metric, y_true: NDArray[np.int64], predictions: Predictions) -> float:
    """Return the value of a metric of labels or probabilities for n rows; ``y_true`` has shape (n,).

    Raises:
        ConfigError: One of the user's own metrics fails, or gives no finite number.
    """
    arrays = (y_true, predictions.labels, predictions.probabilities)
    if entry.target is None:
        return float(entry.score(*arrays))
    try:
        value = float(entry.score(*arrays))
    except Exception as error:  # whatever a function of the user's own raises
        raise ConfigError(f"evaluation.metrics: {entry.target} fails: {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise ConfigError(f"evaluation.metrics: {entry.target} gives {value}, which is no finite number.")
    return value


def keyed(values: Mapping[str | tuple[str, str], float], split: str, class_names: Sequence[str]) -> dict[str, float]:
    """Return a judgement under the keys of a record: ``val/macro_f1``, ``val/f1/Sci_Tech``."""
    return {
        f"{split}/{name}" if isinstance(name, str) else f"{split}/{name[0]}/{column_key(name[1], class_names)}": value
        for name, value in values.items()
    }


def classification_report_table(
    y_true: NDArray[np.int64], predictions: Predictions, class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return one row a class (precision, recall, f1, support), then the macro average."""
    margins = Margins(*predictions.task.counts(y_true, predictions.labels, len(class_names)))
    columns = {name: entry.score(margins) for name, entry in METRICS.items() if entry.of == "classes"}
    rows: list[dict[str, Any]] = [
        {"class": name, **{m: float(v[i]) for m, v in columns.items()}, "support": int(margins.support[i])}
        for i, name in enumerate(class_names)
    ]
    averages = {m: float(v.mean()) for m, v in columns.items()}
    return [*rows, {"class": "macro average", **averages, "support": len(y_true)}]


def count_metric(name: str, class_names: Sequence[str]) -> CountMetric:
    """Return the function of :class:`Margins` behind a metric of counts, or behind a class's own.

    Raises:
        ConfigError: The name is unknown, or that of a metric that counts do not determine.
    """
    choice = find_metric(name, class_names)
    score, class_name = choice.metric.score, choice.class_name
    if class_name is not None:
        index = list(class_names).index(class_name)
        return lambda margins: score(margins)[..., index]
    if choice.metric.of != "counts":
        raise ConfigError(f"The metric '{name}' cannot be had from counts of labels: it judges probabilities.")
    return score


def names_of_classes(*indices: NDArray[np.int64], class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the K class names; without names given, "0", "1" ... up to the largest index in the arrays.

    Raises:
        DataError: An index has no class name, or two classes have the same one.
    """
    needed = max(2, int(max(array.max() for array in indices)) + 1)
    if class_names is None:
        return tuple(str(index) for index in range(needed))
    if needed > len(class_names):
        raise DataError(f"class index {needed - 1} has no name: only {len(class_names)} class names were given")
    if len(set(class_names)) != len(class_names):
        raise DataError(f"class names must differ from each other, got {', '.join(class_names)}")
    return tuple(class_names)


# --- class names in keys -----------------------------------------------------------------------------------------

_LONGEST = 150  # MLflow takes keys of 250 characters, splits and metrics included


def column_key(class_name: str, all_names: Sequence[str]) -> str:
    """Return a class name as keys of metrics and names of columns hold it: readable, and never that of another class.

    Letters lose their accents, and characters that MLflow does not take become ``_``. Where two names meet, also where
    they would on a disk that ignores case, those that were changed and those that come later get ``-2``, ``-3``.
    """
    return _column_keys(tuple(all_names))[class_name]


@lru_cache(maxsize=64)
def _column_keys(names: tuple[str, ...]) -> dict[str, str]:
    keys: dict[str, str] = {}
    taken: set[str] = set()
    latest: dict[str, int] = {}
    for name in sorted(names, key=lambda name: _cleaned(name) != name):  # stable: unchanged names first
        cleaned = key = _cleaned(name)
        while key.lower() in taken:
            latest[cleaned] = latest.get(cleaned, 1) + 1
            key = f"{cleaned}-{latest[cleaned]}"
        taken.add(key.lower())
        keys[name] = key
    return keys


@cache
def _cleaned(name: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    cleaned = re.sub(r"[^A-Za-z0-9_. -]", "_", plain)[:_LONGEST]
    return cleaned if cleaned.strip(". ") else "_" * max(1, len(cleaned))  # MLflow reads dots as folders

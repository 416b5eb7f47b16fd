"""`agnews check`: coded checks of data, finished runs and comparisons for what people do wrong without noticing.

A check is one function in the register. It returns what it found in words, None where all is well, or a
:class:`NotApplicable` with the reason. Its severity says what to do: ``error`` makes the numbers worthless, ``warning``
may, ``tip`` is worth knowing.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.errors.near_duplicates import (
    ALIKE,
    CLUSTERS,
    count_across,
    exact_keys,
    find_near_duplicates,
    normalised,
)
from agnews_exp.analyses.findings import Table
from agnews_exp.config.validation import flat
from agnews_exp.core.errors import AgnewsError, first_line
from agnews_exp.core.paths import HISTORY
from agnews_exp.data.corpus import Splits
from agnews_exp.data.csv_files import date_columns
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import joint_bootstrap
from agnews_exp.evaluation.statistics.comparison import compare_predictions
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval
from agnews_exp.evaluation.stored_answers import stored_answers
from agnews_exp.evaluation.tasks import refuse_left_out, task_of, task_of_record
from agnews_exp.tracking.record import PREDICTIONS
from agnews_exp.tracking.runs import Run

Severity = Literal["error", "warning", "tip"]


@dataclass(frozen=True)
class NotApplicable:
    """The answer of a check that has nothing to look at.

    Attributes:
        reason: Why.
    """

    reason: str


Answer = str | NotApplicable | None
"""What was found, in words; or that the check does not apply; or None: all is well."""


@dataclass(frozen=True, eq=False)
class CheckedData(Splits):
    """The rows of a data set as checks see them, with the moments of each row in the columns that hold dates."""

    dates: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)  # by column and split

    @classmethod
    def of(cls, splits: Splits, config: Mapping[str, Any]) -> CheckedData:
        """Return the rows with what the columns of their files tell of time; ``config`` is a resolved configuration."""
        parts = {"train": splits.train, "val": splits.validation, "test": splits.test}
        return cls(**vars(splits), dates=date_columns(config["data"], parts))


class CheckedRun(Run):
    """A finished run as checks see it; what is read is kept."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its configuration, flat: dotted key to value."""
        return flat(self.config)

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of its record."""
        found: dict[str, float] = self.result["metrics"]
        return found

    @property
    def rows(self) -> str:
        """What identifies its validation and test rows."""
        return str(self.result["data"]["evaluation_checksum"])

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """Points of its training curves by step; empty for models without steps."""
        path = self.folder / HISTORY
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]  # a killed run's last line may be torn

    @cached_property
    def validation(self) -> tuple[NDArray[np.int64], Predictions]:
        """True classes of the validation rows, shape (n,), and its answers, in the order of the row ids."""
        found = stored_answers(self.folder / PREDICTIONS, "val", tuple(self.result["class_names"]))
        return found.labels, found.given


@dataclass(frozen=True)
class Check:
    """A check in the register.

    Attributes:
        code: ``D1``: looks at data (:class:`CheckedData`); ``T1``: at one run; ``C1``: at runs judged on the same rows.
        title: What is wrong where it fires.
        severity: How grave that is.
        fix: What to do.
        function: Looks.
    """

    code: str
    title: str
    severity: Severity
    fix: str
    function: Callable[[Any], Answer]


_Function = TypeVar("_Function", bound=Callable[..., Answer])
CHECKS: dict[str, Check] = {}
"""All checks by code."""


def check(code: str, title: str, severity: Severity, fix: str) -> Callable[[_Function], _Function]:
    """Enter a function into the register of checks; arguments as in :class:`Check`."""

    def enter(function: _Function) -> _Function:
        CHECKS[code] = Check(code, title, severity, fix, function)
        return function

    return enter


@dataclass(frozen=True)
class Result:
    """What one check said of one thing.

    Attributes:
        check: The check.
        where: Name of the data or the run; ``all runs``.
        answer: What it said.
    """

    check: Check
    where: str
    answer: Answer

    @property
    def fired(self) -> bool:
        """Whether something was found."""
        return isinstance(self.answer, str)


def perform_checks(kind: Literal["D", "T", "C"], subject: Any, where: str) -> Iterator[Result]:
    """Yield the results of all checks of a kind; one that cannot look, as files are damaged, does not apply."""
    first = subject[0] if kind == "C" else subject
    task = task_of(first.train.labels) if kind == "D" else task_of_record(first.result)
    for one in CHECKS.values():
        if one.code.startswith(kind):
            try:
                refuse_left_out(task, "checks", where)
                answer = one.function(subject)
            except AgnewsError as error:
                answer = NotApplicable(first_line(error))
            yield Result(one, where, answer)


def check_runs(runs: Sequence[CheckedRun]) -> list[Result]:
    """Return the results of all checks of single runs, and of those of each group that was judged on the same rows."""
    found = [result for run in runs for result in perform_checks("T", run, run.name)]
    groups: dict[str, list[CheckedRun]] = defaultdict(list)
    for run in runs:
        groups[run.rows].append(run)
    for group in groups.values():
        found += perform_checks("C", group, "all runs" if len(groups) == 1 else f"{len(group)} runs")
    return found


def results_table(results: Sequence[Result], *, everything: bool = False) -> Table:
    """Return what was found, the gravest first, the same finding of several runs as one row; or also what is well."""
    order = ("error", "warning", "tip")
    rows: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        if result.fired or everything:
            said = result.answer if result.fired else ""
            reason = result.answer.reason if isinstance(result.answer, NotApplicable) else None
            state = result.check.severity if said else f"not applicable: {reason}" if reason else "fine"
            rows[result.check.code, f"{state}\n{said}"].append(result)
    lines = []
    for (code, content), found in rows.items():
        state, _, said = content.partition("\n")
        names = [result.where for result in found]
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        fix = CHECKS[code].fix if said else ""
        if code.startswith("T"):
            fix = fix.replace("<run>", names[0])
        lines.append((code, state, f"{CHECKS[code].title}: {said}" if said else CHECKS[code].title, where, fix))
    lines.sort(key=lambda line: order.index(line[1]) if line[1] in order else len(order))
    counts = Counter("found" if r.fired else "fine" if r.answer is None else "not applicable" for r in results)
    note = ", ".join(f"{n} {what}" for what, n in counts.items())
    return Table("checks", "Checks", ("code", "severity", "what", "where", "fix"), tuple(lines), note=note)


# --- data -----------------------------------------------------------------------------------------------------------

FEW_ROWS = 10
_PROBED, _MOST_NEAR = 3000, 20_000


def _parts(splits: Splits) -> dict[str, Any]:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


@check("D1", "The texts name their class", "error",
       fix="leave the label's column out of data.text_columns, or remove the name from the texts")  # fmt: skip
def _label_in_text(splits: Splits) -> Answer:
    names = [normalised(name) for name in splits.class_names]
    found = right = 0
    for text, label in zip(splits.train.texts, splits.train.labels.tolist(), strict=True):
        words = f" {normalised(text)} "
        named = [k for k, name in enumerate(names) if name and f" {name} " in words]
        found, right = found + bool(named), right + (named == [label])
    share = right / len(splits.train)
    return f"{share:.0%} of the training texts hold the name of their class and of no other" if share > 0.8 else None


@check("D2", "The same texts stand in training and outside", "warning",
       fix="remove duplicates, or cut the split by group, so that copies stay together")  # fmt: skip
def _duplicates_across(splits: Splits) -> Answer:
    seen = {normalised(text) for text in splits.train.texts}
    said = []
    for name in ("validation", "test"):
        texts = _parts(splits)[name].texts
        n = sum(normalised(text) in seen for text in texts)
        if n > 0.01 * len(texts):
            said.append(f"{n:,} of {len(texts):,} {name} rows ({n / len(texts):.1%})")
    return f"{', '.join(said)} have the words of a training row" if said else None


@check("D3", "Near-duplicates across the split", "tip", fix="agnews errors <run> shows the score without them")
def _near_duplicates(splits: Splits) -> Answer:
    parts, start, places = _parts(splits), 0, {}
    texts = [text for rows in parts.values() for text in rows.texts]
    if len(texts) > _MOST_NEAR:
        return NotApplicable(f"{len(texts):,} rows take long: agnews errors <run> looks at all")
    for name, rows in parts.items():
        places[name] = slice(start, start + len(rows))
        start += len(rows)
    counts = count_across(find_near_duplicates(texts, threshold=ALIKE), places)
    n, of = counts["test"]["train"], len(splits.test)
    return f"{n:,} of {of:,} test rows ({n / of:.1%}) nearly repeat a training row" if n > 0.02 * of else None


@check("D4", "The same text has different labels", "warning",
       fix="agnews eda lists them; correct or remove one of each")  # fmt: skip
def _conflicts(splits: Splits) -> Answer:
    keys, _ = exact_keys(splits.train.texts)
    k = len(splits.class_names)
    pairs = np.unique(keys * k + splits.train.labels)  # each (text, label) once
    several = np.flatnonzero(np.bincount(pairs // k) > 1)
    n = int(np.isin(keys, several).sum())
    return f"{n:,} training rows ({n / len(keys):.1%})" if n > 0.005 * len(keys) else None


@check("D5", "A class is too small to be judged", "warning",
       fix="add rows, merge classes, or raise data.validation_size and data.test_size")  # fmt: skip
def _small_classes(splits: Splits) -> Answer:
    said = []
    for name in ("validation", "test"):
        counts = np.bincount(_parts(splits)[name].labels, minlength=len(splits.class_names))
        said += [f"{splits.class_names[k]} ({counts[k]} {name} rows)" for k in np.flatnonzero(counts < FEW_ROWS)]
    more = f" and {len(said) - 5} more" if len(said) > 5 else ""
    return f"{', '.join(said[:5])}{more}: with {FEW_ROWS} rows a recall of .9 is known to .19 only" if said else None


@check("D6", "A class is missing from training or validation", "error", fix="add rows of it, or remove the class")
def _missing_classes(splits: Splits) -> Answer:
    said = [
        f"{splits.class_names[k]} in {name}"
        for name in ("train", "validation")
        for k in np.flatnonzero(np.bincount(_parts(splits)[name].labels, minlength=len(splits.class_names)) == 0)
    ]
    return f"no row of {', '.join(said)}" if said else None


def _told_apart(one: Sequence[str], other: Sequence[str], what: str) -> Answer:
    """Try to tell texts from others: AUC of a linear classifier, 2 folds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    rng, one, other = np.random.default_rng(0), [*dict.fromkeys(one)], [*dict.fromkeys(other)]
    known = set(one)
    other = [text for text in other if text not in known]  # copies are D2's
    n = min(_PROBED, len(one), len(other))
    if n < 100:
        return NotApplicable(f"fewer than 100 texts to tell apart ({what})")
    texts = [*(one[i] for i in rng.permutation(len(one))[:n]), *(other[i] for i in rng.permutation(len(other))[:n])]
    place = np.repeat([0, 1], n)
    matrix = TfidfVectorizer(min_df=2, sublinear_tf=True).fit_transform(texts)
    scores = cross_val_predict(LogisticRegression(), matrix, place, cv=2, method="decision_function")
    auc, chance = float(roc_auc_score(place, scores)), math.sqrt((2 * n + 1) / (12 * n * n))
    found = auc > 0.6 and auc > 0.5 + 4 * chance
    return f"a classifier tells {what} with an AUC of {auc:.2f} (alike: .5)" if found else None


@check("D7", "Validation texts are unlike training texts", "warning",
       fix="cut validation off the training file (data.validation_size), or see what changed")  # fmt: skip
def _validation_shift(splits: Splits) -> Answer:
    if (split := getattr(splits, "split", "")) in ("group", "time"):
        return NotApplicable(f"split={split} is there to make them so")
    return _told_apart(splits.train.texts, splits.validation.texts, "validation from training texts")


@check("D8", "Test texts are unlike training texts", "tip",
       fix="expect less on test than on validation; if that is by design (another time), say so")  # fmt: skip
def _test_shift(splits: Splits) -> Answer:
    return _told_apart(splits.train.texts, splits.test.texts, "test from training texts")


@check("D9", "Texts without words", "warning", fix="see whether data.text_columns names the right columns")
def _empty_texts(splits: Splits) -> Answer:
    n = sum(not any(c.isalnum() for c in text) for text in splits.train.texts)
    return f"{n:,} training rows ({n / len(splits.train):.1%})" if n > 0.01 * len(splits.train) else None


@check("D10", "Classes of very different size", "tip",
       fix="judge by macro-F1, and try class_weight=balanced where the model has it")  # fmt: skip
def _imbalance(splits: Splits) -> Answer:
    counts = np.bincount(splits.train.labels, minlength=len(splits.class_names))
    if counts.min() == 0 or counts.max() < 20 * counts.min():
        return None
    most, least = (splits.class_names[int(k)] for k in (counts.argmax(), counts.argmin()))
    return f"{most} has {counts.max() / counts.min():.0f} times the rows of {least}"


@check("D11", "Time leaks over the split", "warning",
       fix="split=time split.column=<the column>: score what comes after the training")  # fmt: skip
def _time_leak(data: CheckedData) -> Answer:
    """Look whether training has rows from after the test rows began, and whether their moment tells of the class."""
    dates = getattr(data, "dates", {})
    if not dates:
        return NotApplicable("no column of the files holds dates")
    said = []
    for column, moments in dates.items():
        when, then = (np.array([np.datetime64(m[:26]) for m in moments[split]]) for split in ("train", "test"))
        within = (then >= when.min()) & (then <= when.max())
        if within.mean() < 0.05:
            continue  # test rows are newer, as they will be in use
        order = np.argsort(when, kind="stable")
        after = np.searchsorted(when[order], then).clip(1, len(when) - 1)
        left, right = when[order[after - 1]], when[order[after]]
        nearest = np.where(then - left <= right - then, order[after - 1], order[after])
        same = float((data.train.labels[nearest] == data.test.labels)[within].mean())
        k, parts = len(data.class_names), (data.train.labels, data.test.labels)
        shares = [np.bincount(labels, minlength=k) / len(labels) for labels in parts]
        chance = float(shares[0] @ shares[1])
        error = math.sqrt(chance * (1 - chance) / int(within.sum()))
        if same > chance + max(0.1, 4 * error):
            said.append(f"{column}: the training row nearest in time has the class of {same:.0%} of the test rows"
                        f" ({chance:.0%} by chance)")  # fmt: skip
            continue
        early, late = ([data.train.texts[i] for i in half.tolist()] for half in np.array_split(order, 2))
        apart = _told_apart(early, late, f"the early half of the training texts, by {column}, from the late one")
        said += [apart] if isinstance(apart, str) else []
    return f"training and test are of one time, and time matters: {'; '.join(said)}" if said else None


# --- training -------------------------------------------------------------------------------------------------------


@check("T1", "Not better than naming the most frequent class", "error",
       fix="look at the data (agnews eda) and at the learning rate, or choose another model")  # fmt: skip
def _majority(run: CheckedRun) -> Answer:
    if str(run.result["model"]).startswith("dummy"):
        return NotApplicable("a dummy is meant to be that bad")
    labels, given = run.validation
    right, most = int(np.sum(labels == given.labels)), int(np.bincount(labels).max())
    if accuracy_interval(right, len(labels)).low > most / len(labels):
        return None
    return f"validation accuracy {right / len(labels):.4f}, the most frequent class has {most / len(labels):.4f}"


@check("T2", "Overfitting", "tip", fix="more regularisation, fewer features, earlier stopping, or more rows")
def _overfitting(run: CheckedRun) -> Answer:
    train, val = (run.metrics.get(f"{split}/macro_f1") for split in ("train", "val"))
    if train is None or val is None:
        return NotApplicable("training rows were not scored")
    return f"macro-F1 {train:.4f} on training rows, {val:.4f} on validation" if train - val > 0.15 else None


@check("T3", "The optimiser did not converge", "warning", fix="raise max_iter, or scale the features")
def _convergence(run: CheckedRun) -> Answer:
    said = [note for note in run.result.get("notes", []) if "converge" in note.lower()]
    return said[0].partition("\n")[0] if said else None


@check("T4", "The last epoch was the best", "tip", fix="train longer: trainer.max_epochs")
def _stopped_early(run: CheckedRun) -> Answer:
    scores = [point["curve/val_macro_f1"] for point in run.history if "curve/val_macro_f1" in point]
    if len(scores) < 2:
        return NotApplicable("no curve over epochs")
    rising = scores[-1] - max(scores[:-1])
    return f"macro-F1 on validation still rose by {rising:.4f}" if rising > 0.005 else None


@check("T5", "A class is never answered", "warning", fix="class_weight=balanced, more rows of it, or merge it")
def _never_answered(run: CheckedRun) -> Answer:
    labels, given = run.validation
    k = len(run.result["class_names"])
    there, answered = np.bincount(labels, minlength=k), np.bincount(given.labels, minlength=k)
    if str(run.result["model"]).startswith("dummy"):
        return NotApplicable("a dummy does not look at the texts")
    names = [run.result["class_names"][i] for i in np.flatnonzero((answered == 0) & (there >= 5))]
    return f"{', '.join(names)} on validation" if names else None


@check("T6", "Probabilities say less than none", "warning", fix="agnews calibrate <run>")
def _useless_probabilities(run: CheckedRun) -> Answer:
    loss, k = run.metrics.get("val/log_loss"), len(run.result["class_names"])
    if loss is None or str(run.result["model"]).startswith("dummy"):
        return NotApplicable("no probabilities of a model")
    return (
        f"log-loss {loss:.3f} on validation; equal probabilities have {math.log(k):.3f}" if loss > math.log(k) else None
    )


@check("T7", "Calibration made it worse", "warning",
       fix="leave the probabilities alone, or give calibration more validation rows")  # fmt: skip
def _worse_calibration(run: CheckedRun) -> Answer:
    figures = [run.metrics.get(f"test/{name}_{when}") for name in ("ece", "nll") for when in ("before", "after")]
    if None in figures:
        return NotApplicable("no calibration was performed: agnews calibrate <run>")
    names, (ece, ece_after, nll, nll_after) = [], (float(v or 0) for v in figures)
    names += [f"ECE {ece:.4f} to {ece_after:.4f}"] if ece_after > ece + 0.01 else []
    names += [f"NLL {nll:.4f} to {nll_after:.4f}"] if nll_after > nll + 0.01 else []
    return f"on test, {' and '.join(names)}" if names else None


@check("T8", "Test is far below validation", "warning",
       fix="see D7 and D8; validation rows may have been used up by many choices")  # fmt: skip
def _test_below_validation(run: CheckedRun) -> Answer:
    val, test = (run.metrics.get(f"{split}/accuracy") for split in ("val", "test"))
    if val is None or test is None:
        return NotApplicable("the test rows were not scored")
    sizes = [int(run.result["data"]["rows"][split]) for split in ("val", "test")]
    pooled = (val * sizes[0] + test * sizes[1]) / sum(sizes)
    error = math.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / sizes[0] + 1 / sizes[1]))
    return f"accuracy {val:.4f} on validation, {test:.4f} on test" if val - test > max(4 * error, 0.02) else None


@check("T9", "Underfitting", "tip", fix="less regularisation, more features, a larger model, or more epochs")
def _underfitting(run: CheckedRun) -> Answer:
    train, val = (run.metrics.get(f"{split}/macro_f1") for split in ("train", "val"))
    if train is None or val is None or str(run.result["model"]).startswith("dummy"):
        return NotApplicable("training rows were not scored, or a dummy was")
    said = f"macro-F1 {train:.4f} even on training rows, {val:.4f} on validation"
    return said if train < 0.8 and train - val < 0.02 else None


@check("T10", "Groups stand on both sides of the split", "warning",
       fix="split=group split.column=<the column of evaluation.cluster_column>")  # fmt: skip
def _shared_groups(run: CheckedRun) -> Answer:
    shared = {split: found["shared"] for split, found in run.result.get("clusters", {}).items()}
    if not shared or run.settings.get("evaluation.cluster_column") == CLUSTERS:
        return NotApplicable("no group is named (evaluation.cluster_column); near-duplicates are D3's")
    said = [f"{share:.0%} of the {split} rows" for split, share in shared.items() if share > 0.01]
    return f"{' and '.join(said)} have a value of evaluation.cluster_column that training rows have" if said else None


# --- comparisons ----------------------------------------------------------------------------------------------------

Runs = Sequence[CheckedRun]


def _clean(runs: Runs) -> list[CheckedRun]:
    """Return the runs of which validation rows fitted nothing, best validation score first."""
    kept = [run for run in runs if run.result.get("family") != "cascade"]
    return sorted(kept, key=lambda run: -run.metrics.get("val/macro_f1", -math.inf))


def _same_group(runs: Runs) -> dict[str, list[CheckedRun]]:
    groups: dict[str, list[CheckedRun]] = defaultdict(list)
    for run in runs:
        groups[str(run.result["group_fingerprint"])].append(run)
    return groups


@check("C1", "Seeds that change nothing", "warning",
       fix="one seed is enough of it; data_fraction=0.8 subset_seed=1,2,3 varies its training rows")  # fmt: skip
def _idle_seeds(runs: Runs) -> Answer:
    several = [g for g in _same_group(runs).values() if len({run.result["seed"] for run in g}) > 1]
    if not several:
        return NotApplicable("no model has several seeds")
    same = [g for g in several if all(np.array_equal(g[0].validation[1].labels, r.validation[1].labels) for r in g)]
    names = ", ".join(dict.fromkeys(g[0].given_name for g in same))
    return f"{names} answers alike with every seed: no proof comes of repeating it" if same else None


@check("C2", "The test rows were looked at many times", "tip",
       fix="choose by validation (agnews top), and keep fresh rows for the last word")  # fmt: skip
def _looks_at_test(runs: Runs) -> Answer:
    n = sum("test/macro_f1" in run.metrics for run in runs)
    return f"{n} runs have a test score" if n >= 20 else None


@check("C3", "The best of many is flattered", "tip", fix="quote the test score of the chosen run, not this one")
def _winners_curse(runs: Runs) -> Answer:
    systems = _clean(runs)
    if len(systems) < 3:
        return NotApplicable("fewer than three runs to choose from")
    outputs = {str(place): run.validation[1].labels for place, run in enumerate(systems)}
    joint = joint_bootstrap(systems[0].validation[0], outputs, resamples=500)
    winners, columns = joint.resampled.argmax(axis=0), np.arange(joint.resampled.shape[1])
    optimism = float(np.mean(joint.resampled[winners, columns] - joint.estimates[winners]))
    said = f"choosing among {len(systems)} runs raises the best validation macro-F1 by some {optimism:.4f}"
    return said if optimism > 0.003 else None


@check("C4", "Too few rows to tell the best two apart", "tip", fix="more validation rows, or take the cheaper one")
def _no_power(runs: Runs) -> Answer:
    best = list({str(run.result["group_fingerprint"]): run for run in reversed(_clean(runs))}.values())[::-1][:2]
    if len(best) < 2:
        return NotApplicable("one system")
    (labels, one), (_, other) = (run.validation for run in best)
    names = best[0].result["class_names"]
    found = compare_predictions(labels, one, other, metrics=("macro_f1",), class_names=names, resamples=500)
    if found.outcome != "unknown" or not found.detectable_primary > 0.01:
        return None
    said = f"{best[0].given_name} and {best[1].given_name} differ by {found.difference:.4f};"
    return f"{said} {len(labels):,} validation rows show {found.detectable_primary:.4f} with a chance of 80 %"


@check("C5", "A blend fitted on validation rows leads the list", "warning",
       fix="compare it on test rows, once, or by folds; its validation score flatters it")  # fmt: skip
def _blend_leads(runs: Runs) -> Answer:
    scores = [run for run in runs if "val/macro_f1" in run.metrics]
    best = max(scores, key=lambda run: run.metrics["val/macro_f1"], default=None)
    return best.given_name if best is not None and best.result.get("family") == "cascade" else None


@check("C6", "A network has one seed", "tip", fix="-m seed=1,2,3 shows how much of the score is luck")
def _one_seed(runs: Runs) -> Answer:
    groups = [g for g in _same_group(runs).values() if g[0].result.get("family") == "transformer"]
    if not groups:
        return NotApplicable("no network")
    best = max(groups, key=lambda g: max(run.metrics.get("val/macro_f1", 0.0) for run in g))
    return best[0].given_name if len({run.result["seed"] for run in best}) == 1 else None


@check("C7", "A network does not beat a bag of words", "warning",
       fix="take the cheaper one, or train longer, with more rows, from pretrained weights")  # fmt: skip
def _bag_of_words(runs: Runs) -> Answer:
    best = {}
    for run in reversed(_clean(runs)):
        if not str(run.result["model"]).startswith("dummy"):
            best[run.result.get("family")] = run
    if not {"transformer", "classical"} <= set(best):
        return NotApplicable("no network beside a classical model")
    network, words = best["transformer"], best["classical"]
    labels = words.validation[0]
    found = compare_predictions(
        labels, network.validation[1], words.validation[1], metrics=("macro_f1",), resamples=500,
        class_names=words.result["class_names"],
    )  # fmt: skip
    if found.outcome == "different" and found.difference > 0:
        return None
    speeds = [run.metrics.get("throughput_batch") for run in (words, network)]
    cost = f", at {speeds[0] / speeds[1]:.0f} times the cost of a text" if speeds[0] and speeds[1] else ""
    return f"{network.given_name} minus {words.given_name} is {found.difference:+.4f} macro-F1 on validation{cost}"


@check("C8", "The best value lies at the edge of those tried", "tip", fix="try values beyond it")
def _edge(runs: Runs) -> Answer:
    said, applies = [], False
    families: dict[tuple[Any, ...], list[CheckedRun]] = defaultdict(list)
    for run in _clean(runs):
        families[run.result["model"], run.result["features"], run.result["data_fraction"]].append(run)
    for (model, *_), group in families.items():
        for key in (k for k in group[0].settings if k.startswith("model.") and not k.endswith("random_state")):
            values = {v for run in group if isinstance(v := run.settings.get(key), int | float)}
            if len(values) < 3:
                continue
            applies = True
            value = group[0].settings[key]
            gain = group[0].metrics.get("val/macro_f1", 0.0) - max(
                (run.metrics.get("val/macro_f1", 0.0) for run in group if run.settings.get(key) != value), default=0.0
            )
            if value in (min(values), max(values)) and gain > 0.001:
                said.append(f"{model}: {key}={value:g} of {min(values):g} to {max(values):g}")
    return "; ".join(said) if said else None if applies else NotApplicable("no setting has three values")


_CHOOSING = ("evaluation.costs", "evaluation.analyses.cascade.fixed_confidence", "model.value", "model.target")
"""Settings, or groups of them, that move a threshold and train nothing."""


@check("C9", "A threshold was tried several times with the test score in view", "warning",
       fix="choose it with evaluation.score_test=false, and score test once")  # fmt: skip
def _threshold_on_test(runs: Runs) -> Answer:
    alike: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for run in runs:
        chosen = {k: v for k, v in run.settings.items() if k.startswith(_CHOOSING) and v is not None}
        if chosen and "test/macro_f1" in run.metrics:
            parts = [str(run.settings.get(key)) for key in ("model.fast", "model.accurate", "data_fraction")]
            alike[(str(run.result["model"]), str(run.result["features"]), *parts)].add(str(sorted(chosen.items())))
    most = max(alike.items(), key=lambda entry: len(entry[1]), default=None)
    if most is None:
        return NotApplicable("no run has a threshold of its own")
    (model, *_), values = most
    return f"{len(values)} runs of {model} differ in it, and all were scored on test" if len(values) >= 3 else None

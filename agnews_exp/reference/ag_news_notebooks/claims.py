"""Rules that judge the sentences of the AG News notebooks, beside the rules of every reference.

Rules about printed numbers compute them again from the notebooks' own counts; rules about models look at own runs, and
judge nothing where these have fewer training rows or another corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import adjust
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval, effect_sizes, pooled_cohens_d
from agnews_exp.evaluation.statistics.mcnemar import PairedCounts, mcnemar_test
from agnews_exp.evaluation.statistics.resampled import correct_t_statistic
from agnews_exp.reference.reading import (
    CONTRADICTED,
    REPRODUCED,
    Judged,
    OwnResult,
    Reference,
    Rule,
    compared,
    unjudged,
)

Line = Mapping[str, str]
Own = Sequence[OwnResult]
CLASSES = ("World", "Sports", "Business", "Sci/Tech")
_PAIR = ("LinearSVC", "DistilBERT")
_RESAMPLES = 2000


def _verdict(holds: bool, said: str) -> Judged:
    return Judged(REPRODUCED if holds else CONTRADICTED, said)


# --- from the notebooks' own counts -----------------------------------------------------------------------------------


def published_confusion(reference: Reference, system: str, source: str = "notebook") -> NDArray[np.int64]:
    """Return a published confusion matrix of the test rows, true classes by given ones, shape (4, 4), int64.

    The source ``notebook`` has what was computed, ``technical report`` what was printed there instead.
    """
    rows = [
        [int(row[name]) for name in CLASSES]
        for row in reference.table("confusions")
        if (row["system"], row["split"], row["source"]) == (system, "test", source)
    ]
    return np.array(rows, dtype=np.int64)


def paired_counts(reference: Reference) -> PairedCounts:
    """Return the notebooks' table of right and wrong answers: DistilBERT is a, LinearSVC is b."""
    names = ("both right", "only DistilBERT right", "only LinearSVC right", "both wrong")
    return PairedCounts(*(int(reference.value(name, "test", "count")) for name in names))


def class_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 by class of a confusion matrix (K, K), shape (K,), float64."""
    return np.asarray(2 * np.diag(counts) / (counts.sum(axis=0) + counts.sum(axis=1)), dtype=np.float64)


def printed_matrices(_: Line, reference: Reference, own: Own) -> Judged:
    """Compare the printed matrices with the computed ones."""
    parts, same = [], True
    for system in _PAIR:
        real = published_confusion(reference, system)
        printed = published_confusion(reference, system, source="technical report")
        same &= bool((real == printed).all())
        accuracies = [float(np.trace(m) / m.sum()) for m in (printed, real)]
        parts.append(f"{system}: the printed matrix gives {accuracies[0]:.4f}, the computed one {accuracies[1]:.4f}")
    return _verdict(same, "; ".join(parts) + ".")


def pair_reduction(line: Line, reference: Reference, own: Own) -> Judged:
    """Compute by how much each confused pair shrinks."""
    low, high = (float(word) for word in line["argument"].split())
    svc, bert = (published_confusion(reference, system) for system in _PAIR)
    parts, holds = [], True
    for i, j in zip(*np.triu_indices(len(CLASSES), 1), strict=True):
        before, after = int(svc[i, j] + svc[j, i]), int(bert[i, j] + bert[j, i])
        holds &= low - 0.005 <= 1 - after / before <= high + 0.005
        parts.append(f"{CLASSES[i]}-{CLASSES[j]} {before} to {after} ({1 - after / before:.1%})")
    return _verdict(holds, "; ".join(parts) + ".")


@cache
def _matrix_interval(counts: tuple[tuple[int, ...], ...]) -> tuple[float, float]:
    matrix = np.array(counts)
    true, given = np.indices(matrix.shape).reshape(2, -1)
    labels, answers = np.repeat(true, matrix.ravel()), np.repeat(given, matrix.ravel())
    return bootstrap_metric(labels, answers, "macro_f1", resamples=_RESAMPLES, seed=0).percentile


def matrix_interval(line: Line, reference: Reference, own: Own) -> Judged:
    """Bootstrap the test answers that a published matrix holds."""
    system, low, high = line["argument"].split()
    counts = published_confusion(reference, system)
    ends = _matrix_interval(tuple(tuple(int(n) for n in row) for row in counts))
    same = max(abs(ends[0] - float(low)), abs(ends[1] - float(high))) < 0.001
    return _verdict(same, f"Bootstrap of its own answers: macro-F1 in [{ends[0]:.4f}, {ends[1]:.4f}].")


def class_range(line: Line, reference: Reference, own: Own) -> Judged:
    """Take the smallest class F1 of DistilBERT's matrix."""
    scores = class_f1(published_confusion(reference, "DistilBERT"))
    said = f"From its matrix: {100 * scores.min():.2f} ({CLASSES[int(scores.argmin())]}) to {100 * scores.max():.2f}."
    return _verdict(bool(abs(scores.min() - float(line["number"])) < 5e-5), said)


def mcnemar(_: Line, reference: Reference, own: Own) -> Judged:
    """Test the difference by the items that only one of the systems gets right."""
    counts = paired_counts(reference)
    exact, corrected = mcnemar_test(counts, "exact"), mcnemar_test(counts, "corrected")
    odds = effect_sizes(counts).discordant_odds_ratio.estimate
    said = (
        f"The difference is real, though four classes are no sample that shows it: {counts.only_a} against"
        f" {counts.only_b} test rows, McNemar's exact p = {exact.p_value:.2g} (chi-square {corrected.statistic:.2f}"
        f" with correction), odds ratio {odds:.2f}."
    )
    return _verdict(exact.p_value <= 0.05, said)


def cohens_d(line: Line, reference: Reference, own: Own) -> Judged:
    """Compute the pooled d by the formula of the source's own methodology."""
    svc, bert = (class_f1(published_confusion(reference, system)) for system in _PAIR)
    d = pooled_cohens_d(bert, svc)
    said = f"Its own formula on the same four F1s gives d = {d:.3f}; neither is an effect size of the test rows."
    return _verdict(abs(d - float(line["number"])) < 0.05, said)


def corrected_folds(_: Line, reference: Reference, own: Own) -> Judged:
    """Correct the t-tests over folds for shared training rows and for their number (Nadeau and Bengio 2003; Holm)."""
    tests = [line for line in reference.results if line.metric == "t"]
    found = [correct_t_statistic(line.value, line.rows or 10, 1 / ((line.rows or 10) - 1)) for line in tests]
    adjusted = adjust([p for _, p in found], "holm")
    parts = [
        f"{line.system.removeprefix('t of ')}: t = {t:.2f}, p = {p:.3f}, {holm:.3f} after Holm"
        for line, (t, p), holm in zip(tests, found, adjusted, strict=True)
    ]
    said = "Corrected: " + "; ".join(parts) + "."
    at = next(
        i for i, line in enumerate(tests) if line.system.startswith("t of SGD modified_huber over LinearSVC C=1,")
    )
    return Judged(REPRODUCED, said) if adjusted[at] <= 0.05 else unjudged("repeated cross-validation", said)


def error_reduction(line: Line, reference: Reference, own: Own) -> Judged:
    """Compute the reduction of (1 - F1), which is what was published, and of the errors of a true class."""
    named, most = line["argument"].split()
    svc, bert = (published_confusion(reference, system) for system in _PAIR)
    f1 = [1 - class_f1(m) for m in (svc, bert)]
    wrong = [m.sum(axis=1) - np.diag(m) for m in (svc, bert)]
    at = CLASSES.index(named)
    ratio, saved = float(1 - f1[1][at] / f1[0][at]), wrong[0] - wrong[1]
    parts = [f"{name} {a} to {b}" for name, a, b in zip(CLASSES, *wrong, strict=True)]
    said = (
        f"{ratio:.1%} is the reduction of 1 - F1 of {named}, in which other classes' errors count too; rows of the"
        f" class that are answered wrongly: {', '.join(parts)}. The most are saved in {CLASSES[int(saved.argmax())]}."
    )
    return _verdict(abs(ratio - float(line["number"])) < 0.005 and CLASSES[int(saved.argmax())] == most, said)


def best_classical(_: Line, reference: Reference, own: Own) -> Judged:
    """Rank its classical systems by its own numbers on each split."""
    others = ("distilbert", "blend")
    ranks = {
        split: sorted(
            (-line.value, line.system)
            for line in reference.results
            if (line.split, line.metric) == (split, "macro_f1") and line.settings.get("model", others[0]) not in others
        )
        for split in ("cv", "val")
    }
    parts = [f"{split}: {', '.join(f'{name} {-v:.4f}' for v, name in best[:3])}" for split, best in ranks.items()]
    gap = max(abs(best[0][0] - best[1][0]) for best in ranks.values())
    said = f"Its first three by {'; by '.join(parts)}. The first two are within {gap:.4f}."
    return unjudged("paired answers: such differences are within the error of its splits", said)


def fold_deviation(line: Line, reference: Reference, own: Own) -> Judged:
    """Read the standard deviations of its ten best models in its own table."""
    of_ten = [line for line in reference.results if line.settings.get("evaluation.folds") == "10"]
    best = sorted((-line.value, line.system) for line in of_ten if line.key == "cv/macro_f1")[:10]
    spreads = {name: reference.value(name, "cv", "macro_f1_std") for _, name in best}
    above = {name: sd for name, sd in spreads.items() if sd >= float(line["number"])}
    said = ", ".join(f"{name} {100 * sd:.2f} %" for name, sd in above.items())
    return _verdict(not above, f"Of the ten best of its own table, {len(above)} have more: {said or 'none'}.")


def tuning_gain(_: Line, reference: Reference, own: Own) -> Judged:
    """Compare its tuned and untuned SGD on its validation rows."""
    tuned, plain = (reference.value(name, "val", "macro_f1") for name in ("SGD tuned", "SGD modified_huber"))
    said = f"On its validation rows: tuned {tuned:.4f}, untuned {plain:.4f}; its scores over folds are of 5 and of 10."
    error = 1.96 * (2 * plain * (1 - plain) / 18_000) ** 0.5
    if abs(tuned - plain) > error:
        return _verdict(tuned > plain, said)
    return unjudged("both on the same folds", f"{said} The error of such a difference is {error:.4f}.")


# --- from own runs ----------------------------------------------------------------------------------------------------


def _details(one: OwnResult, analysis: str) -> dict[str, Any]:
    return dict(one.findings.get(analysis, {}).get("details") or {})


def _with(own: Own, analysis: str, family: str | None = None, model: str = "") -> OwnResult | None:
    found = (o for o in own if analysis in o.findings and family in (None, o.family) and o.model.startswith(model))
    return max(found, key=lambda one: one.metrics.get("val/macro_f1", 0.0), default=None)


def _unlike(reference: Reference, *runs: OwnResult) -> str:
    for one in runs:
        if one.family == "transformer" and one.model != "distilbert":
            return f"a run of DistilBERT, not of {one.model}"
        if lacks := reference.unlike(one):
            return lacks
    return ""


def _on(reference: Reference, runs: Sequence[OwnResult], judged: Judged) -> Judged:
    """Return a verdict, or none where the runs are unlike the source's."""
    lacks = _unlike(reference, *runs)
    return unjudged(lacks, judged.said) if lacks else judged


def calibration_gain(line: Line, reference: Reference, own: Own) -> Judged:
    """Compare test accuracy before and after Platt scaling; the answers that it changes bound the error."""
    run = _with(own, "calibration", model=line["argument"])
    change = (_details(run, "calibration").get("changes") or {}).get("platt") if run else None
    if run is None or change is None:
        return unjudged(line["command"])
    before, after = change["before"]["accuracy"], change["after"]["accuracy"]
    reach = 1.96 * (change.get("changed_predictions", 0.0) / max(1, run.rows.get("test", 1))) ** 0.5
    said = f"{run.name}: test accuracy {before:.4f} before and {after:.4f} after Platt scaling"
    gain, number = after - before, float(line["number"])
    return _on(reference, [run], compared(gain, number, (gain - reach, gain + reach), 0.001, said))


def top_features(line: Line, reference: Reference, own: Own) -> Judged:
    """Name the first features of a class."""
    class_name, word = line["argument"].split()
    run = _with(own, "explanation", "classical")
    weights = [
        w for w in (_details(run, "explanation").get("weights") or [] if run else []) if w["class_name"] == class_name
    ]
    if run is None or not weights:
        return unjudged(line["command"])
    top = sorted(weights, key=lambda w: -float(w["weight"]))[:10]
    words = ", ".join(f"{w['term']} ({w['block']}) {float(w['weight']):+.2f}" for w in top[:3])
    first = str(top[0]["term"]).strip() == word
    return _on(reference, [run], _verdict(first, f"{run.name}, {class_name}: {words}."))


def family_order(line: Line, reference: Reference, own: Own) -> Judged:
    """Say whether a metric of an analysis is lower for the classical run, or higher for the transformer."""
    analysis, of_classical, of_transformer, better = line["argument"].split()
    pair = [_with(own, analysis, family) for family in ("classical", "transformer")]
    if pair[0] is None or pair[1] is None:
        return unjudged(line["command"])
    values = [
        _measured(one, analysis, key) for one, key in zip(pair, (of_classical, of_transformer), strict=True) if one
    ]
    if None in values:
        return unjudged(line["command"])
    a, b = (float(value) for value in values if value is not None)
    said = f"{pair[0].name} {a:+.4f}, {pair[1].name} {b:+.4f} on test"
    holds = a < b if better == "lower" else b > a
    return _on(reference, [one for one in pair if one], _verdict(holds, said))


def _measured(one: OwnResult, analysis: str, key: str) -> float | None:
    if key != "mean_change":
        return (one.findings[analysis].get("metrics") or {}).get(key)
    changes = [
        v["metrics"]["macro_f1"]["difference"]["estimate"]
        for v in (_details(one, analysis).get("variants") or {}).values()
    ]
    return fmean(changes) if changes else None


def router(line: Line, reference: Reference, own: Own) -> Judged:
    """Judge a number of a cascade that routes at confidence .9."""
    key, how = line["argument"].split()
    run = _with(own, "cascade")
    fixed = (_details(run, "cascade").get("fixed_confidence") or {}) if run else {}
    row = fixed.get("after calibration") or next(iter(fixed.values()), None)
    if run is None or row is None:
        return unjudged(line["command"])
    what = f"{key.replace('_', ' ')} {row[key]:.4f} of the test rows"
    said = f"{run.name}, calibrated, confidence {row['threshold']:g}: {what}"
    return _share(line, reference, run, float(row[key]), how, said)


def share(line: Line, reference: Reference, own: Own) -> Judged:
    """Judge a share of test rows that an analysis counted."""
    analysis, key, how = line["argument"].split()
    run = _with(own, analysis)
    value = (run.findings[analysis].get("metrics") or {}).get(key) if run else None
    if run is None or value is None:
        return unjudged(line["command"])
    value = float(value) / run.rows["test"] if key.endswith("rows") else float(value)
    return _share(line, reference, run, value, how, f"{run.name}: {value:.2%} of the test rows")


def _share(line: Line, reference: Reference, run: OwnResult, value: float, how: str, said: str) -> Judged:
    n, number = run.rows.get("test", 0), float(line["number"])
    found = accuracy_interval(round(value * n), n)
    if how == "near":
        return _on(reference, [run], compared(value, number, (found.low, found.high), 0.02, said))
    claimed_above = line["rule"] == "router"
    beyond, short = (
        (found.low >= number, found.high < number) if claimed_above else (found.high <= number, found.low > number)
    )
    said += f" [{found.low:.4f}, {found.high:.4f}]"
    judged = _verdict(beyond, said) if beyond or short else unjudged("more test rows", said)
    return _on(reference, [run], judged)


def short_texts(line: Line, reference: Reference, own: Own) -> Judged:
    """Compare the error rate of the shortest texts with that of all."""
    run = _with(own, "errors", "classical")
    found = _details(run, "errors") if run else {}
    if run is None or not found.get("by_length"):
        return unjudged(line["command"])
    first, rate = found["by_length"][0], found["overall"]["rate"]
    ends = f"[{first['low']:.1%}, {first['high']:.1%}]"
    said = f"{run.name}, {first['name']}: error rate {first['rate']:.1%} {ends}, all {rate:.1%}"
    told = first["high"] < rate or first["low"] > rate
    return _on(reference, [run], _verdict(first["high"] < rate, said) if told else unjudged("more test rows", said))


def cleaning(line: Line, reference: Reference, own: Own) -> Judged:
    """Rank ways of cleaning of one model on validation."""
    groups: dict[tuple[str, str, str], dict[str, OwnResult]] = {}
    for one in own:
        if clean := one.config.get("features.clean"):
            key = one.model, str(one.config.get("features")), str(one.config.get("data_fraction"))
            groups.setdefault(key, {}).setdefault(str(clean), one)
    arms = max(groups.values(), key=len, default={})
    if len(arms) < 2 or line["argument"] not in arms:
        return unjudged(line["command"])
    ranked = sorted(arms.items(), key=lambda item: -item[1].metrics["val/macro_f1"])
    said = "Validation: " + ", ".join(f"{name} {one.metrics['val/macro_f1']:.4f}" for name, one in ranked)
    ends = ranked[0][1].interval("val/macro_f1")
    if ends is None or ranked[1][1].metrics["val/macro_f1"] >= ends[0]:
        return _on(
            reference, list(arms.values()), unjudged("more validation rows: the first two are not told apart", said)
        )
    return _on(reference, list(arms.values()), _verdict(ranked[0][0] == line["argument"], said))


def seed_spread(line: Line, reference: Reference, own: Own) -> Judged:
    """Compare a difference that was interpreted with what two seeds of one model differ by."""
    found = [one for one in own if one.family == "transformer" and "val/macro_f1_seeds" in one.metrics]
    best = max(found, key=lambda one: one.rows.get("train", 0), default=None)
    if best is None:
        return unjudged(line["command"])
    spread = best.metrics["val/macro_f1_seeds"]
    chance = f"two runs differ by {100 * 2.8 * spread:.2f} by chance (95 %)"
    said = f"{best.name}: sd {100 * spread:.2f} points over seeds; {chance}"
    return _on(reference, [best], _verdict(2.8 * spread < float(line["number"]), said))


def fold_gap(line: Line, reference: Reference, own: Own) -> Judged:
    """Compare fold means of features fitted inside each fold with the published ones."""
    lines = [one for one in reference.results if one.key == "cv/macro_f1" and "dummy" not in one.system]
    pairs = [(one, mine) for one in lines if (mine := reference.beside(one, own))]
    if not pairs:
        return unjudged(line["command"])
    gaps = [mine.metrics["cv/macro_f1"] - one.value for one, mine in pairs]
    said = f"Features fitted inside the folds: {100 * fmean(gaps):+.2f} points on average over {len(gaps)} models"
    reach = 1.96 * float(np.std(gaps)) / len(gaps) ** 0.5
    ends = fmean(gaps) - reach, fmean(gaps) + reach
    return _on(reference, [mine for _, mine in pairs], compared(fmean(gaps), 0.0, ends, float(line["number"]), said))


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        printed_matrices, pair_reduction, matrix_interval, class_range, mcnemar, cohens_d, corrected_folds,
        error_reduction, best_classical, fold_deviation, tuning_gain, calibration_gain, top_features, family_order,
        router, share, short_texts, cleaning, seed_spread, fold_gap,
    )
}  # fmt: skip

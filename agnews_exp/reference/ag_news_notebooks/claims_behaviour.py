"""Claims about behaviour and cost, answered by our runs. Each function returns None where no run does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agnews_exp.reference.ag_news_notebooks.claims_scores import analysed, details, orientation, run_of
from agnews_exp.reference.ag_news_notebooks.verdicts import UNTESTED, Answer, judged
from agnews_exp.report.inputs import Inputs, StoredRun

Line = dict[str, str]


def calibration_gain(inputs: Inputs, line: Line) -> Answer | None:
    """Compare accuracy before and after Platt scaling."""
    run = next((r for r in inputs.with_analysis("calibration") if r.model.startswith(line["argument"])), None)
    change = (details(run, "calibration").get("changes") or {}).get("platt")
    if run is None or change is None:
        return None
    before, after = change["before"]["accuracy"], change["after"]["accuracy"]
    changed = change.get("changed_predictions", 0.0)
    said = (
        f"{run.name}: test accuracy {before:.4f} before, {after:.4f} after Platt scaling, which"
        f" changes {changed:.2%} of the answers"
    )
    return judged(said, after > before, (run,))


def top_features(inputs: Inputs, line: Line) -> Answer | None:
    """Name the first features of the first class, and the share of character n-grams among the first ten."""
    run = analysed(inputs, "explanation", "classical")
    weights = [w for w in details(run, "explanation").get("weights") or [] if w["class_name"] == "World"]
    if run is None or not weights:
        return None
    top = sorted(weights, key=lambda w: -float(w["weight"]))[:10]
    chars = sum("char" in str(w["block"]) for w in top)
    words = ", ".join(f"{w['term']} {float(w['weight']):+.2f}" for w in top[:3])
    rank = next((i for i, w in enumerate(top, 1) if str(w["term"]).strip() == line["argument"]), None)
    place = f"{line['argument']} is number {rank}" if rank else f"{line['argument']} is not among the first ten"
    said = f"{run.name}, World: {words}; {chars} of the first ten are character n-grams; {place}"
    return judged(said, rank == 1, (run,))


def ece_order(inputs: Inputs, line: Line) -> Answer | None:
    """Compare a calibrated classical model's ECE with a transformer's raw one."""
    one, other = (analysed(inputs, "calibration", family) for family in ("classical", "transformer"))
    if one is None or other is None:
        return None
    a = (one.analysis("calibration") or {})["metrics"]["test/ece_after"]
    b = (other.analysis("calibration") or {})["metrics"]["test/ece_before"]
    return judged(f"Test ECE: {one.name}, calibrated {a:.4f}; {other.name}, raw {b:.4f}", a < b, (one, other))


def _router(inputs: Inputs) -> tuple[StoredRun, dict[str, Any]] | None:
    for run in inputs.with_analysis("cascade"):
        fixed = details(run, "cascade").get("fixed_confidence") or {}
        row = fixed.get("after calibration") or next(iter(fixed.values()), None)
        if row:
            return run, row
    return None


def router_share(inputs: Inputs, line: Line) -> Answer | None:
    """Give the share that the fast model answers at confidence .9."""
    found = _router(inputs)
    if found is None:
        return None
    run, row = found
    said = (
        f"At confidence {row['threshold']:g}, calibrated, the fast model answers"
        f" {row['answered_fast']:.1%} of the test rows, {row['accuracy_of_fast_there']:.1%} of them right"
    )
    return judged(said, abs(row["answered_fast"] - float(line["argument"])) < 0.02, (run,))


def router_accuracy(inputs: Inputs, line: Line) -> Answer | None:
    """Give the router's accuracy at confidence .9."""
    found = _router(inputs)
    if found is None:
        return None
    run, row = found
    said = (
        f"At confidence {row['threshold']:g}, calibrated, the router's test accuracy is"
        f" {row['accuracy']:.4f}; the other model has {row['accuracy_of_accurate_on_the_rest']:.1%} on what it gets"
    )
    return judged(said, row["accuracy"] >= float(line["argument"]), (run,))


def near_duplicates(inputs: Inputs, line: Line) -> Answer | None:
    """Count test rows with a near-duplicate in train."""
    for run in inputs.with_analysis("errors"):
        n = (run.analysis("errors") or {}).get("metrics", {}).get("test/near_duplicate_rows")
        if n is not None:
            share = n / run.rows["test"]
            said = (
                f"{n:,.0f} of {run.rows['test']:,} test rows ({share:.2%}) have a near-duplicate in"
                " train (Jaccard of 3-word shingles)"
            )
            return judged(said, share < float(line["argument"]), (run,))
    return None


def label_noise(inputs: Inputs, line: Line) -> Answer | None:
    """Give confident learning's share of doubtful labels."""
    for run in inputs.with_analysis("errors"):
        share = (run.analysis("errors") or {}).get("metrics", {}).get("test/label_noise_share")
        if share is not None:
            said = (
                f"Confident learning with {run.name} doubts {share:.2%} of the test labels:"
                " candidates, not proven errors"
            )
            return judged(said, abs(share - float(line["argument"])) < 0.005, (run,))
    return None


def transfer(inputs: Inputs, line: Line) -> Answer | None:
    """Compare both families on another source."""
    pair = [analysed(inputs, "external", family) for family in ("transformer", "classical")]
    if pair[0] is None or pair[1] is None:
        return None
    values = []
    for run in pair:
        found = (details(run, "external").get("metrics") or {}).get("external")
        if run is None or not found:
            return None
        values.append((run.name, found["macro_f1"]["estimate"]))
    said = "Macro-F1 on the other source: " + ", ".join(f"{name} {value:.4f}" for name, value in values)
    return judged(said, values[0][1] > values[1][1], tuple(r for r in pair if r))


def sensitivity(inputs: Inputs, line: Line) -> Answer | None:
    """Compare the mean loss over the same changes of the texts."""
    pair = [analysed(inputs, "robustness", family) for family in ("transformer", "classical")]
    if pair[0] is None or pair[1] is None:
        return None
    changes = [details(run, "robustness").get("variants") or {} for run in pair]
    common = sorted(set(changes[0]) & set(changes[1]))
    if not common:
        return None
    means = [sum(c[k]["metrics"]["macro_f1"]["difference"]["estimate"] for k in common) / len(common) for c in changes]
    said = (
        f"Mean change of test macro-F1 over {len(common)} changes: {pair[0].name} {means[0]:+.4f},"
        f" {pair[1].name} {means[1]:+.4f}"
    )
    return judged(said, means[0] > means[1], (pair[0], pair[1]))


def short_texts(inputs: Inputs, line: Line) -> Answer | None:
    """Compare the error rate of the shortest texts with that of all."""
    run = analysed(inputs, "errors", "classical")
    found = details(run, "errors")
    if run is None or not found.get("by_length"):
        return None
    first, all_rows = found["by_length"][0], found["overall"]
    said = (
        f"{run.name}, {first['name']}: error rate {first['rate']:.1%} [{first['low']:.1%},"
        f" {first['high']:.1%}], all test rows {all_rows['rate']:.1%}"
    )
    return judged(said, first["high"] < all_rows["rate"], (run,))


def train_time(inputs: Inputs, line: Line) -> Answer | None:
    """Give our training time; another machine's cannot refute the study's."""
    run = run_of(inputs, line["argument"])
    if run is None:
        return None
    said = f"{run.name}: {run.timings.get('fit', 0.0) / 60:.1f} min on {run.device} (another machine)"
    return Answer(said, UNTESTED, "our runs, for orientation", (run,))


fit_time = train_time


def throughput(inputs: Inputs, line: Line) -> Answer | None:
    """Give our speed; another machine's cannot refute the study's."""
    run = run_of(inputs, line["argument"])
    speed = run.metrics.get("throughput_batch") if run else None
    if run is None or not speed:
        return None
    said = (
        f"{run.name}: {speed:,.0f} texts a second in batches, vectorising included, on {run.device} (another machine)"
    )
    return Answer(said, UNTESTED, "our runs, for orientation", (run,))


def speed_ratio(inputs: Inputs, line: Line) -> Answer | None:
    """Compare the best classical model's speed with the best transformer's."""
    low, high = (float(word) for word in line["argument"].split())
    pair = [inputs.best_of(family) for family in ("classical", "transformer")]
    speeds = [s.first.metrics.get("throughput_batch") if s else None for s in pair]
    if pair[0] is None or pair[1] is None or not speeds[0] or not speeds[1]:
        return None
    ratio = speeds[0] / speeds[1]
    said = f"{pair[0].label} answers {ratio:,.1f} times as fast as {pair[1].label} on one machine, vectorising included"
    return (
        judged(said, low <= ratio <= high, (pair[0].first, pair[1].first))
        if pair[1].first.model == "distilbert"
        else orientation(said, pair[0], pair[1])
    )


def size(inputs: Inputs, line: Line) -> Answer | None:
    """Compare the size of the stored model."""
    run = run_of(inputs, line["argument"])
    found = run.metrics.get("model_size_mb") if run else None
    if run is None or not found:
        return None
    said = f"{run.name}: {found:.1f} MB on disk, vectorisers included; the study's own files: 13.3 MB"
    return judged(said, abs(found / float(line["number"]) - 1) < 0.2, (run,))


BEHAVIOUR: Mapping[str, Callable[[Inputs, Line], Answer | None]] = {
    function.__name__: function
    for function in (
        calibration_gain,
        top_features,
        ece_order,
        router_share,
        router_accuracy,
        near_duplicates,
        label_noise,
        transfer,
        sensitivity,
        short_texts,
        train_time,
        throughput,
        speed_ratio,
        size,
    )
} | {"fit_time": fit_time}

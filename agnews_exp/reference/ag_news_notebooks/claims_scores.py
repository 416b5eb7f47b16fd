"""Claims about scores, answered by our runs. Each function returns None where no run does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.reference.ag_news_notebooks.verdicts import UNTESTED, Answer, judged
from agnews_exp.report.inputs import Inputs, StoredRun, System

_HYBRID = "hybrid_tfidf"


def run_of(inputs: Inputs, model: str) -> StoredRun | None:
    """Return the run of a model on the most rows, on the study's features where there is a choice."""
    found = [system.first for system in inputs.systems if system.first.model == model]
    return max(found, key=lambda run: (run.fraction, run.features == _HYBRID, run.n_folds), default=None)


def with_interval(run: StoredRun, metric: str) -> str:
    """Return a metric in words, with its bootstrap interval."""
    low, high = run.interval(metric) or (None, None)
    value = run.metrics[metric]
    between = "" if low is None else f" [{low:.4f}, {high:.4f}]"
    return f"{metric} {value:.4f}{between}"


def details(run: StoredRun | None, analysis: str) -> dict[str, Any]:
    """Return the details of a run's analysis, empty without one."""
    return {} if run is None else dict((run.analysis(analysis) or {}).get("details") or {})


def analysed(inputs: Inputs, analysis: str, family: str) -> StoredRun | None:
    """Return the best run of a family that holds an analysis, or None."""
    return next((run for run in inputs.with_analysis(analysis) if run.family == family), None)


def orientation(said: str, *systems: System) -> Answer:
    """Return an answer from runs with other settings than the claim's: it decides nothing."""
    return Answer(
        f"{said} (other settings than the claim's)",
        UNTESTED,
        "our runs, for orientation",
        tuple(s.first for s in systems),
    )


Line = dict[str, str]


def score(inputs: Inputs, line: Line) -> Answer | None:
    """Compare a model's score with the published number."""
    model, split = line["argument"].split()
    run, metric = run_of(inputs, model), f"{split}/macro_f1"
    if run is None or metric not in run.metrics:
        return None
    low, high = run.interval(metric) or (run.metrics[metric], run.metrics[metric])
    said = f"{run.name}: {with_interval(run, metric)}"
    return judged(said, low <= float(line["number"]) <= high, (run,))


def best_classical(inputs: Inputs, line: Line) -> Answer | None:
    """Name the best of the study's models in our validation."""
    names = {row["model"] for row in published("models")}
    found = [s for s in inputs.systems if s.first.model in names and s.first.features == _HYBRID]
    if len({s.first.model for s in found}) < 5:
        return None
    share = max(s.first.fraction for s in found)
    ranked = [s for s in found if s.first.fraction == share]
    first = ranked[0]
    best = inputs.best_of("classical") or first
    said = (
        f"Of the study's models {first.first.model} is best on validation"
        f" ({first.mean('val/macro_f1'):.4f}); of all classical"
        f" systems here {best.label} ({best.mean('val/macro_f1'):.4f})"
    )
    return judged(said, first.first.model.startswith(line["argument"]), (first.first, best.first))


def in_sample(inputs: Inputs, line: Line) -> Answer | None:
    """Show a blend's validation score beside its test score."""
    run = run_of(inputs, line["argument"])
    if run is None:
        return None
    gap = run.metrics["val/macro_f1"] - run.metrics["test/macro_f1"]
    said = (
        f"Ours is fitted on validation rows too: {with_interval(run, 'val/macro_f1')},"
        f" {with_interval(run, 'test/macro_f1')} ({gap:+.4f})"
    )
    low, high = run.interval("test/macro_f1") or (0.0, 1.0)
    return judged(said, low <= run.metrics["val/macro_f1"] <= high, (run,))


def fold_sd(inputs: Inputs, line: Line) -> Answer | None:
    """Take the largest standard deviation of the best ten, the study's and ours."""
    limit = float(line["argument"])
    theirs = max(float(row["cv/macro_f1_std"]) for row in published("models")[:10])
    found = sorted((s.first for s in inputs.systems if s.first.n_folds == 10), key=lambda r: -r.metrics["cv/macro_f1"])[
        :10
    ]
    ours = ""
    if found:
        ours = f"; ours: {max(run.metrics['cv/macro_f1_std'] for run in found):.4f}"
    said = f"The largest of its best ten is {theirs:.4f} in its own table{ours}"
    return judged(said, theirs < limit, tuple(found), comparable=True)


def _arms(inputs: Inputs, key: str) -> dict[str, System]:
    found: dict[str, System] = {}
    for sweep in inputs.sweeps:
        if key.rpartition(".")[2] in " ".join(map(str, sweep.info.get("swept") or ())) or key.partition(".")[0] in (
            sweep.info.get("swept") or ()
        ):
            groups = {run.group for run in sweep.runs}
            found |= {str(s.first.config.get(key)): s for s in inputs.systems if s.first.group in groups}
    return found


def length_effect(inputs: Inputs, line: Line) -> Answer | None:
    """Compare 512 with 256 tokens, or the longest with the one before."""
    arms = {int(k): s for k, s in _arms(inputs, "model.max_length").items() if k.isdigit()}
    if len(arms) < 2:
        return None
    short, long = sorted(arms)[-2:]
    a, b = arms[long].mean("val/macro_f1") or 0.0, arms[short].mean("val/macro_f1") or 0.0
    spread = arms[long].spread("val/macro_f1")
    noise = "" if spread is None else f", sd over seeds {spread:.4f}"
    said = f"{long} against {short} tokens on validation: {a:.4f} and {b:.4f} ({100 * (a - b):+.2f} points{noise})"
    known = (short, long) == (256, 512)
    return (
        judged(said, a > b, (arms[long].first, arms[short].first))
        if known
        else orientation(said, arms[long], arms[short])
    )


def frozen_gain(inputs: Inputs, line: Line) -> Answer | None:
    """Compare full fine-tuning with a frozen encoder."""
    arms = _arms(inputs, "tuning.name")
    if not {"frozen", "full"} <= set(arms):
        return None
    gain = (arms["full"].mean("val/macro_f1") or 0.0) - (arms["frozen"].mean("val/macro_f1") or 0.0)
    said = f"{arms['full'].first.model}, validation: {100 * gain:+.2f} points over {len(arms['full'].seeds)} seed(s)"
    if arms["full"].first.model != "distilbert":
        return orientation(said, arms["full"], arms["frozen"])
    return judged(said, abs(gain - float(line["number"])) < 0.005, (arms["full"].first, arms["frozen"].first))


def fraction_score(inputs: Inputs, line: Line) -> Answer | None:
    """Look for a transformer on that share of the rows."""
    share = float(line["argument"])
    found = next((s for s in inputs.systems if s.first.family == "transformer" and s.first.fraction == share), None)
    if found is None:
        return None
    run = found.first
    said = f"{found.label}: {with_interval(run, 'val/macro_f1')}"
    if run.model != "distilbert" or not run.source.startswith("ag_news"):
        return orientation(said, found)
    low, high = run.interval("val/macro_f1") or (0.0, 0.0)
    return judged(said, low <= float(line["number"]) <= high, (run,), comparable=True)


def search_best(inputs: Inputs, line: Line) -> Answer | None:
    """Name what our search found."""
    sweep = next((s for s in inputs.sweeps if s.is_search and s.path.name.startswith(line["argument"])), None)
    best = (sweep.best.get("best") or [{}])[0] if sweep else {}
    if sweep is None or not best:
        return None
    params = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in best["params"].items())
    return judged(f"Our search: {params}", False, sweep.runs)


def blend_gain(inputs: Inputs, line: Line) -> Answer | None:
    """Compare a blend with the better of its two members on test."""
    blend = run_of(inputs, "blend")
    best = max(
        (s.first for s in inputs.systems if s.first.family != "cascade"),
        key=lambda r: r.metrics["val/macro_f1"],
        default=None,
    )
    if blend is None or best is None:
        return None
    gain = blend.metrics["test/macro_f1"] - best.metrics["test/macro_f1"]
    said = f"{with_interval(blend, 'test/macro_f1')}, {100 * gain:+.2f} points over {best.name}"
    return judged(said, abs(gain - float(line["number"])) < 0.001, (blend, best))


def cleaning(inputs: Inputs, line: Line) -> Answer | None:
    """Rank ways of cleaning by validation."""
    by: dict[tuple[str, str, float], dict[str, System]] = {}
    for system in inputs.systems:
        run = system.first
        if clean := run.config.get("features.clean"):
            by.setdefault((run.model, run.features, run.fraction), {}).setdefault(str(clean), system)
    arms = max(by.values(), key=len, default={})
    if len(arms) < 2:
        return None
    ranked = sorted(arms.items(), key=lambda item: -(item[1].mean("val/macro_f1") or 0.0))
    said = "Validation: " + ", ".join(f"{name} {s.mean('val/macro_f1'):.4f}" for name, s in ranked)
    return judged(said, ranked[0][0] == "moderate", tuple(s.first for s in arms.values()))


def feature_score(inputs: Inputs, line: Line) -> Answer | None:
    """Give the score of character n-grams alone."""
    found = next((s.first for s in inputs.systems if s.first.features == line["argument"]), None)
    if found is None:
        return None
    low, high = found.interval("val/macro_f1") or (0.0, 0.0)
    return judged(f"{found.name}: {with_interval(found, 'val/macro_f1')}", low <= 0.8984 <= high, (found,))


def seed_spread(inputs: Inputs, line: Line) -> Answer | None:
    """Give the spread over seeds of a transformer."""
    found = [s for s in inputs.systems if s.first.family == "transformer" and len(s.runs) > 1]
    best = max(found, key=lambda s: (s.first.fraction, len(s.runs)), default=None)
    spread = best.spread("val/macro_f1") if best else None
    if best is None or spread is None:
        return None
    said = (
        f"{best.label}: standard deviation {100 * spread:.2f} points over {len(best.runs)} seeds on"
        f" validation: two single runs differ by {100 * 2.8 * spread:.2f} points by chance (95 %)"
    )
    return judged(said, 2.8 * spread < 0.0004, tuple(best.runs))


def fold_gap(inputs: Inputs, line: Line) -> Answer | None:
    """Compare our leak-free fold means with the study's."""
    ours = {s.first.model: s.first for s in inputs.systems if s.first.n_folds == 10 and s.first.features == _HYBRID}
    rows = [
        (float(row["cv/macro_f1"]), ours[row["model"]])
        for row in published("models")
        if row["model"] in ours and "dummy" not in row["model"]
    ]
    if not rows:
        return None
    gap = sum(theirs - run.metrics["cv/macro_f1"] for theirs, run in rows) / len(rows)
    said = (
        f"Features fitted inside the folds: our fold means are {100 * gap:.2f} points below the"
        f" study's on average over {len(rows)} models; fewer training rows explain a part"
    )
    return judged(said, False, tuple(run for _, run in rows))


def tuning_gain(inputs: Inputs, line: Line) -> Answer | None:
    """Compare the search's best with the untuned model in cross-validation."""
    search, model = line["argument"].split()
    sweep = next((s for s in inputs.sweeps if s.is_search and s.path.name.startswith(search)), None)
    untuned = run_of(inputs, model)
    best = (sweep.best.get("best") or [{}])[0] if sweep else {}
    value = next(iter((best.get("values") or {}).values()), None)
    if sweep is None or untuned is None or value is None or "cv/macro_f1" not in untuned.metrics:
        return None
    before = untuned.metrics["cv/macro_f1"]
    said = f"Cross-validation: tuned {value:.4f} ({len(sweep.runs)} trials), untuned {before:.4f}"
    return judged(said, value > before, (untuned, *sweep.runs))


def untouched(inputs: Inputs, line: Line) -> Answer | None:
    """Say how often the test set was scored here."""
    scored = [run for run in inputs.runs if "test/macro_f1" in run.metrics]
    said = (
        f"{len(scored)} of our {len(inputs.runs)} runs scored the test set, once each and after all"
        " choices; trials of searches"
        " did not. Many scored systems are many looks: the chosen one was chosen on validation."
    )
    return Answer(said, UNTESTED, "our runs, for orientation", tuple(scored))


SCORES: Mapping[str, Callable[[Inputs, Line], Answer | None]] = {
    function.__name__: function
    for function in (
        score,
        best_classical,
        in_sample,
        fold_sd,
        length_effect,
        frozen_gain,
        fraction_score,
        search_best,
        blend_gain,
        cleaning,
        feature_score,
        seed_spread,
        fold_gap,
        tuning_gain,
        untouched,
    )
}

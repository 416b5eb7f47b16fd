"""What was varied: settings that a sweep or a user changed, shares of the rows, searches, and training over epochs."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean, stdev
from typing import Any

from agnews_exp.analyses.findings import Block, Cell, Column, Missing, Number, Table, Text
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.statistics.learning_curve import FEWEST_POINTS, fit_power_law
from agnews_exp.report.blocks import BOOTSTRAP, Section, intervals, origin, slug
from agnews_exp.report.inputs import Inputs, Sweep
from agnews_exp.report.systems import StoredRun, System
from agnews_exp.tracking.record import repetition

_MOST_POINTS = 200
_SHARE = re.compile(r"data [0-9.e-]+(, )?")
_TEXT_KEYS = (("clean", "Cleaning"), ("tokenizer", "Tokenisers"))


def variations(inputs: Inputs) -> Section:
    """Return one block for each thing that differs between otherwise equal runs."""
    more: list[Block] = [*learning_curves(inputs), *_sweeps(inputs), *_text_handling(inputs)]
    found = [sweep for sweep in inputs.sweeps if sweep.is_search]
    no_search = Missing("No search is among these runs.", "python run.py -m experiment=svc_search")
    more += [_search_table(found), *map(_trials, found)] if found else [no_search]
    best = inputs.best_of("transformer")
    none = Missing("No transformer is among these runs.", "python run.py model=minilm")
    more += [none] if best is None else _training(best)
    return Section("variations", "What was varied", (), tuple(more))


def _arms_block(name: str, title: str, arms: Mapping[str, Mapping[str, System]]) -> list[Block]:
    """Return a chart and a table of the arms of each model: model, then value of the setting, then system."""
    rows = [
        (value, model, len(s.runs), s.mean("val/macro_f1"), s.spread("val/macro_f1"), s.first.timings.get("fit"))
        for model, systems in arms.items() for value, s in systems.items()
    ]  # fmt: skip
    series, made = _lines(arms)
    columns = ("value", "model", Column("seeds", "count"), Column("validation macro-F1, mean", "metric"),
               Column("sd over seeds", "metric"), Column("fit", "time"))  # fmt: skip
    return [
        Chart(name, title, "dots", "macro-F1 on validation", "", series, made, BOOTSTRAP,
              "One row a value of the setting."),
        Table(f"{name}_table", title, columns, tuple(rows), provenance=made),
    ]  # fmt: skip


def _lines(arms: Mapping[str, Mapping[Any, System]]) -> tuple[tuple[Series, ...], str]:
    """Return validation macro-F1 by arm as a series a model, dots or a line, and where the numbers come from."""
    series = []
    for model, systems in arms.items():
        values, lows, highs = intervals(systems.values(), "val/macro_f1")
        places = tuple(systems)
        axes = (values, places) if isinstance(places[0], str) else (places, values)
        series.append(Series(model, *axes, lows, highs))
    runs = [run for systems in arms.values() for system in systems.values() for run in system.runs]
    return tuple(series), origin(runs, ("val",))


def _sweeps(inputs: Inputs) -> list[Block]:
    """Return the settings that grids varied, one at a time."""
    keys = dict.fromkeys(
        str(key) for sweep in inputs.sweeps if not sweep.is_search for key in sweep.info.get("swept") or ()
    )
    blocks: list[Block] = []
    for key in keys:
        if key in ("seed", "model", "features", "data_fraction", "evaluation.folds"):
            continue
        arms = _arms_of_sweeps(inputs, key)
        if arms:
            blocks += _arms_block(f"varied_{slug(key)}", f"{key}: what it changes", arms)
    return blocks


def _arms_of_sweeps(inputs: Inputs, key: str) -> dict[str, dict[str, System]]:
    """Return the arms of each model that a grid tried with several values of a setting."""
    systems = {system.first.group: system for system in inputs.systems}
    found: dict[str, dict[str, System]] = {}
    for sweep in inputs.sweeps:
        for job, run in sweep.jobs.items():
            told = dict(str(word).lstrip("+").split("=", 1) for word in sweep.overrides.get(job, ()) if "=" in word)
            if not sweep.is_search and key in told and run.group in systems:
                share = "" if run.fraction == 1 else f", {run.fraction:g} of the rows"
                found.setdefault(f"{run.name}{share}", {})[told[key]] = systems[run.group]
    return {name: dict(sorted(arms.items(), key=_order)) for name, arms in found.items() if len(arms) > 1}


def _order(arm: tuple[str, System]) -> tuple[float, str]:
    try:
        return float(arm[0]), ""
    except ValueError:
        return 0.0, arm[0]


def _text_handling(inputs: Inputs) -> list[Block]:
    """Return ways of cleaning and cutting texts that differ between runs of one model, features and share of rows."""
    blocks: list[Block] = []
    for key, title in _TEXT_KEYS:
        groups: dict[tuple[str, str, float], dict[str, System]] = {}
        for system in inputs.systems:
            run = system.first
            if (value := run.config.get(f"features.{key}")) is not None:
                groups.setdefault((run.model, run.features, run.fraction), {}).setdefault(str(value), system)
        arms = max(groups.values(), key=len, default={})
        if len(arms) > 1:
            blocks += _arms_block(f"texts_{key}", title, {next(iter(arms.values())).first.model: arms})
    return blocks


def learning_curves(inputs: Inputs) -> list[Block]:
    """Return a chart and a table of validation scores over training rows; nothing where no share was varied."""
    curves = _curves(inputs.systems)
    if not curves:
        said = "No model was trained on several shares of the rows."
        return [Missing(said, "python run.py -m data_fraction=0.25,0.5,1.0")]
    rows = [
        (name, n, s.first.fraction, len(s.runs), *(s.mean("val/macro_f1"), s.spread("val/macro_f1")),
         s.mean("test/macro_f1"))
        for name, points in curves.items() for n, s in points.items()
    ]  # fmt: skip
    series, made = _lines(curves)
    columns = (
        "model", Column("training rows", "count"), Column("fraction", "number"), Column("seeds", "count"),
        Column("validation macro-F1, mean", "metric"), Column("sd over seeds", "metric"),
        Column("test macro-F1, mean", "metric"),
    )  # fmt: skip
    return [
        Chart(
            "data_efficiency", "Data efficiency", "lines", "training rows (logarithmic)", "macro-F1 on validation",
            series, made, BOOTSTRAP, "A curve that still rises at its end would gain from more rows.", log_x=True,
        ),
        Table("data_efficiency_table", "Data efficiency", columns, tuple(rows), provenance=made),
        *worth_it(inputs.systems),
        *more_rows(inputs.systems),
    ]  # fmt: skip


def worth_it(systems: Sequence[System]) -> list[Block]:
    """Return from how many training rows on which system is worth it, in words, and scores and costs in a table.

    Worth it is the fastest in answering of those that the seeds do not tell from the best on validation rows, each seed
    with its own training rows. Nothing is said of one system, or of fewer than four numbers of rows.
    """
    curves = _curves(systems)
    sizes = sorted({n for points in curves.values() for n in points})
    if len(curves) < 2 or len(sizes) < FEWEST_POINTS:
        return []
    chosen: dict[str, list[int]] = {}
    for n in sizes:
        there = {name: points[n] for name, points in curves.items() if n in points}
        best = max(there.values(), key=lambda s: s.mean("val/macro_f1") or 0.0)
        alike = [name for name, system in there.items() if not _surely_below(system, best)]
        if len(there) > 1:
            chosen.setdefault(min(alike, key=lambda name: there[name].cost), []).append(n)
    said = "; ".join(f"{name} at {', '.join(f'{n:,}' for n in places)}" for name, places in chosen.items())
    rows: list[tuple[Cell, ...]] = []
    for n, name, s in sorted(
        ((n, name, s) for name, points in curves.items() for n, s in points.items()),
        key=lambda place: (place[0], -(place[2].mean(_SCORES[0]) or 0.0)),
    ):
        timings, metrics = s.first.timings, s.first.metrics
        scores = (Number(value, "metric", low, high) for value, low, high in map(s.joint_interval, _SCORES))
        rows.append((n, name, len(s.runs), *scores, timings.get("features", 0.0) + timings.get("fit", 0.0),
                     metrics.get("throughput_batch"), metrics.get("model_size_mb")))  # fmt: skip
    columns: tuple[Column | str, ...] = (
        Column("training rows", "count"), "model", Column("seeds", "count"), *(f"{name} [95 %]" for name in _SCORES),
        Column("features and fit", "time"), Column("texts/s", "count"), Column("size", ".1f", "MB"),
    )  # fmt: skip
    note = (
        "Means over seeds; intervals over seeds, each with its own draw, and over rows. Costs are those of the first "
        "seed; what a cache held took no time."
    )
    return [
        Text(
            f"Worth it, by training rows: {said}. That is the fastest in answering of those that a test over seeds and "
            "rows (.05) does not tell from the best on validation rows.",
            "Which system is worth it",
        ),
        Table("worth_it", "Scores and costs by training rows", columns, tuple(rows), note=note),
    ]


_SCORES = ("val/macro_f1", "test/macro_f1", "test/accuracy")
_RESAMPLES = 500


def _surely_below(system: System, best: System) -> bool:
    """Whether a system is told from the best by validation macro-F1 (one-sided, .05).

    Where all runs share their validation rows, the test is over seeds and rows together; seeds that draw validation
    rows of their own are independent, and paired by a t-test. Single runs are told by a paired bootstrap of the rows.
    """
    if len({run.checksum for one in (system, best) for run in one.runs}) > 1:
        own, other = (
            {repetition(run.result): run.metrics.get(_SCORES[0], 0.0) for run in s.runs} for s in (system, best)
        )
        gaps = [other[one] - own[one] for one in sorted(own.keys() & other.keys())]
        if len(gaps) < 2:
            return False
        from scipy.special import stdtrit

        return bool(fmean(gaps) > float(stdtrit(len(gaps) - 1, 0.95)) * stdev(gaps) / len(gaps) ** 0.5)
    from agnews_exp.evaluation.statistics.bootstrap import bootstrap_difference
    from agnews_exp.evaluation.statistics.resampled import compare_seeds

    stored = {name: [run.answers("val") for run in s.runs] for name, s in (("best", best), ("other", system))}
    if best is system or any(one is None for found in stored.values() for one in found):
        return False
    answers = {name: {str(i): one.given for i, one in enumerate(found) if one} for name, found in stored.items()}
    labels, names = next(one.labels for one in stored["best"] if one), best.first.class_names
    if all(len(found) > 1 for found in answers.values()):
        pairs = compare_seeds(labels, answers, "macro_f1", class_names=names, resamples=_RESAMPLES).pairs
        if pairs:
            return bool(pairs[0].test.difference > 0 and pairs[0].test.p_value / 2 <= 0.05)
    first, second = (answers[name]["0"].labels for name in ("best", "other"))
    found = bootstrap_difference(labels, first, second, "macro_f1", resamples=_RESAMPLES, class_names=names, level=0.9)
    return found.difference.percentile[0] > 0


def more_rows(systems: Sequence[System]) -> list[Table]:
    """Return what power laws expect of more rows, in a table; none where no curve has enough points."""

    def count(n: float) -> str:
        return f"{n:,.0f}" if n < 1e9 else "never"

    rows: list[tuple[Cell, ...]] = []
    for name, points in _curves(systems).items():
        scored = [(n, s.joint_interval("val/macro_f1")) for n, s in points.items()]
        known = [(n, value, (high - low) / 3.92) for n, (value, low, high) in scored
                 if value is not None and low is not None and high is not None and high > low]  # fmt: skip
        if len(known) >= FEWEST_POINTS:
            law = fit_power_law(*zip(*known, strict=True))
            doubled = Number(law.doubled, "metric", law.doubled_low, law.doubled_high)
            needed = f"{count(law.rows)} [{count(law.rows_low)}, {count(law.rows_high)}]"
            rows.append((name, max(points), 2 * max(points), doubled, needed))
    columns = (
        "model", Column("training rows", "count"), Column("twice as many", "count"),
        "expected validation macro-F1 of these", "rows for +.01",
    )  # fmt: skip
    note = (
        "Power law c - a n^-b through the curve's points, 95 % intervals by parametric bootstrap (points taken as "
        "independent). An expectation, as far as the curve goes on as it began."
    )
    return [Table("more_rows", "What more rows would bring", columns, tuple(rows), note=note)] if rows else []


def _curves(systems: Sequence[System]) -> dict[str, dict[int, System]]:
    """Return systems that differ in their rows alone, by name and number of rows; those on several shares.

    Of two on equally many rows, the one with more seeds is meant: a single run may have drawn its rows otherwise.
    """
    lines: dict[frozenset[tuple[str, str]], dict[int, System]] = {}
    for system in sorted(systems, key=lambda system: -len(system.runs)):
        if not system.fits_on_validation:
            lines.setdefault(system.setting, {}).setdefault(system.first.rows.get("train", 0), system)
    curves: dict[str, dict[int, System]] = {}
    for points in lines.values():
        if len(points) > 1:
            largest = points[max(points)]
            name = _SHARE.sub("", largest.label).replace("()", "").strip()
            name = f"{name} {largest.first.short}" if name in curves else name
            curves[name] = dict(sorted(points.items()))
    return curves


def _search_table(found: Sequence[Sweep]) -> Block:
    rows = []
    for sweep in found:
        objective = _objective(sweep)
        best: Mapping[str, Any] = (sweep.best.get("best") or [{}])[0]
        params = ", ".join(
            f"{k.rpartition('.')[2]} {f'{v:.4g}' if isinstance(v, float) else v}"
            for k, v in (best.get("params") or {}).items()
        )
        rows.append((sweep.path.name, len(sweep.jobs), objective, params, (best.get("values") or {}).get(objective)))
    columns = ("search", Column("trials finished", "count"), "objective", "best", Column("best score", "metric"))
    note = "The best of many trials flatters itself: the score in this table chose it."
    made = origin([run for sweep in found for run in sweep.runs], ("cv", "val"))
    return Table("searches_table", "Searches", columns, tuple(rows), provenance=made, note=note)


def _objective(sweep: Sweep) -> str:
    return str((sweep.best.get("objectives") or [sweep.info.get("primary", "objective")])[0])


def _trials(sweep: Sweep) -> Chart:
    numbers, scores = zip(*((trial, float(run.result["objective"])) for trial, run in sweep.jobs.items()), strict=True)
    best = tuple(accumulate(scores, max if bool(sweep.info.get("maximise", True)) else min))
    left = int(sweep.info.get("total", len(scores))) - len(scores)
    more = f" {left} of {sweep.info.get('total')} trials were pruned or failed and have no score." if left > 0 else ""
    place = slug(sweep.path.name)
    if place != sweep.path.name:  # others may come to the same: a-b and a_b, Grid and grid
        place += f"_{zlib.crc32(sweep.path.name.encode()):08x}"
    return Chart(
        f"search_{place}", f"Trials of {sweep.path.name}", "lines", "trial", _objective(sweep),
        (Series("trial", numbers, scores), Series("best so far", numbers, best)), origin(sweep.runs, ("cv", "val")),
        "One score a trial: no interval." + more, "A line of the best that is flat for long has little left to find.",
    )  # fmt: skip


def _training(system: System) -> list[Block]:
    """Return loss and macro-F1 over the epochs of a transformer."""
    run = system.first
    epochs = float(run.metrics.get("train_epochs") or 1)
    steps = max((float(line.get("step", 0)) for line in run.history), default=0)
    if not steps:
        return [Missing(f"{system.label} has no stored training curve.", f"{run.command} force=true")]
    drawn = {
        "loss": ("loss (cross-entropy, natural logarithm)",
                 {"train": "curve/train_loss", "validation": "curve/val_log_loss"}),
        "macro_f1": ("macro-F1 on validation", {"validation": "curve/val_macro_f1"}),
    }  # fmt: skip
    blocks: list[Block] = []
    for name, (title, keys) in drawn.items():
        curves = {label: _curve(run, key, epochs / steps) for label, key in keys.items()}
        series = tuple(
            Series(label, tuple(x for x, _ in points), tuple(y for _, y in points))
            for label, points in curves.items() if points
        )  # fmt: skip
        blocks.append(
            Chart(
                f"training_{name}", f"Training of {system.label}: {title.partition(' (')[0]}", "lines", "epoch", title,
                series, origin([run], ("train", "val")), "One training run: no interval.",
                "Validation loss that rises while training loss falls is overfitting.",
            )
        )  # fmt: skip
    return blocks


def _curve(run: StoredRun, key: str, epochs_a_step: float) -> list[tuple[float, float]]:
    points = [(float(line["step"]) * epochs_a_step, float(line[key])) for line in run.history if key in line]
    step = max(1, len(points) // _MOST_POINTS)
    return [*points[::step], *([points[-1]] if points and (len(points) - 1) % step else [])]

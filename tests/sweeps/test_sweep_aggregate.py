"""Tables over jobs: means and intervals over seeds, groups, axes."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from scipy import stats

from agnews_exp.sweeps.results import (
    JobRow,
    curve_chart,
    group_label,
    groups,
    markdown,
    numeric_axis,
    override_values,
    summarise,
    varying_keys,
    write_aggregate,
    write_jobs,
    write_results,
)
from agnews_exp.sweeps.state import JobState, SweepFolder


def row(num: int, words: tuple[str, ...], seed: int, group: str, value: float) -> JobRow:
    """A finished job as its record describes it."""
    result = {
        "fingerprint": f"{group}-{seed}", "group_fingerprint": group, "seed": seed, "objective": value,
        "primary": "val/macro_f1", "name": "m", "timings": {"fit": 1.5},
        "metrics": {f"val/{m}": value for m in ("macro_f1", "accuracy")}
        | {"test/macro_f1": value - 0.01, "test/accuracy": value},
    }  # fmt: skip
    state = JobState(num, (*words, f"seed={seed}"), status="finished", objective=value, run=str(num))
    return JobRow(state, override_values(state.overrides), result)


@pytest.fixture
def rows() -> list[JobRow]:
    """Two fractions by three seeds, and one job of a third fraction."""
    values = {"0.1": (0.80, 0.82, 0.81), "1.0": (0.90, 0.91, 0.92)}
    made = [
        row(10 * i + s, ("model=logreg", f"data_fraction={fraction}"), s, f"g{i}", v)
        for i, (fraction, seeds) in enumerate(values.items())
        for s, v in enumerate(seeds, 1)
    ]
    return [*made, row(99, ("model=logreg", "data_fraction=0.5"), 1, "g9", 0.85)]


def test_interval_is_students_t_interval_of_the_mean():
    values = np.random.default_rng(3).normal(0.9, 0.01, 7).tolist()
    s = summarise(values)
    low, high = stats.t.interval(0.95, 6, loc=np.mean(values), scale=stats.sem(values))
    assert (s.n, s.mean, s.std) == (7, pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (s.low, s.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_a_mean_and_no_deviation():
    s = summarise([0.5])
    assert s.mean == 0.5
    assert math.isnan(s.std)
    assert math.isnan(s.low)


def test_seeds_that_change_nothing_have_no_interval():
    s = summarise([0.5, 0.5, 0.5])
    assert (s.n, s.std) == (3, 0)
    assert math.isnan(s.low)
    alike = [row(i, ("model=nb",), i, "g0", 0.8) for i in (1, 2)]
    assert "0.8000 (2 seeds, all alike)" in markdown(alike)


def test_jobs_are_grouped_over_seeds_and_a_repeated_seed_counts_once(rows):
    again = row(100, ("model=logreg", "data_fraction=0.1"), 1, "g0", 0.80)
    found = groups([*rows, again])
    assert {name: len(members) for name, members in found.items()} == {"g0": 3, "g1": 3, "g9": 1}


def test_seeds_that_draw_the_training_rows_are_averaged_too(rows):
    drawn = [row(i, ("data_fraction=0.1", f"subset_seed={i}"), 1, "g0", 0.8 + i / 100) for i in (1, 2, 3)]
    for i, job in enumerate(drawn, 1):
        job.result["subset_seed"] = i
    assert markdown(drawn).splitlines()[2].startswith("| m | 0.8200 ± 0.0100 [0.7952, 0.8448] (3) |")
    several = [*drawn, row(4, ("data_fraction=1", "subset_seed=1"), 1, "g1", 0.9)]
    assert markdown(several).splitlines()[2].startswith("| data_fraction=1 | 0.9000 |")
    (series,) = curve_chart(several, "data_fraction", ["val/macro_f1"]).series
    assert series.x == (0.1, 1.0)


def test_only_keys_that_vary_name_a_group_and_the_seed_never_does(rows):
    assert varying_keys(rows) == ["data_fraction", "seed"]
    assert group_label(rows[0], varying_keys(rows)) == "data_fraction=0.1"


def test_overrides_are_read_without_signs_and_packages():
    words = ("+a.b=1", "++c=x=y", "~d", "db@src=mysql")
    assert override_values(words) == {"a.b": "1", "c": "x=y", "d": "", "db": "mysql"}


def test_markdown_puts_the_best_first_unless_less_is_better(rows):
    lines = markdown(rows).splitlines()
    assert lines[0].startswith("| configuration | val/macro_f1 | val/accuracy | test/macro_f1 |")
    assert lines[2].startswith("| data_fraction=1.0 | 0.9100 ± 0.0100 [0.8852, 0.9348] (3) |")
    assert markdown(rows, maximise=False).splitlines()[2].startswith("| data_fraction=0.1 |")


def test_markdown_leaves_out_the_test_set_where_it_was_not_scored(rows):
    metrics = {k: v for k, v in rows[0].result["metrics"].items() if not k.startswith("test/")}
    trial = JobRow(rows[0].state, rows[0].values, {**rows[0].result, "metrics": metrics})
    assert markdown([trial, *rows[1:]]).splitlines()[0] == "| configuration | val/macro_f1 | val/accuracy |"


def test_the_tidy_table_has_a_row_for_every_group_and_metric(rows, tmp_path):
    write_aggregate(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 * 6  # four metrics, the objective, and the fit's time
    (cell,) = [r for r in table if r["group_fingerprint"] == "g1" and r["metric"] == "test/macro_f1"]
    assert (cell["data_fraction"], cell["n"]) == ("1.0", "3")
    assert float(cell["mean"]) == pytest.approx(0.90)
    assert float(cell["std"]) == pytest.approx(0.01)
    (single,) = [r for r in table if r["group_fingerprint"] == "g9" and r["metric"] == "objective"]
    assert (single["std"], single["ci95_low"]) == ("", "")


def test_the_jobs_table_keeps_failed_jobs_with_their_reason(rows, tmp_path):
    failed = JobState(7, ("model=x", "seed=1"), status="failed", reason="it broke, badly")
    write_jobs(tmp_path / "j.csv", [*(r.state for r in rows), failed], rows)
    with (tmp_path / "j.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) + 1
    assert (table[-1]["status"], table[-1]["reason"], table[-1]["val/macro_f1"]) == ("failed", "it broke, badly", "")


def test_the_axis_is_the_data_fraction_or_else_the_first_numeric_key(rows):
    assert numeric_axis(rows) == "data_fraction"
    other = [row(i, (f"model.C={c}", f"model={m}"), 1, f"{c}{m}", 0.5) for i, (c, m) in enumerate([(1, "a"), (2, "b")])]
    assert numeric_axis(other) == "model.C"
    assert numeric_axis([row(0, ("model=a",), 1, "a", 0.1), row(1, ("model=b",), 1, "b", 0.2)]) is None


def test_the_curve_has_a_panel_a_metric_and_a_line_a_model_with_intervals(rows):
    chart = curve_chart(rows, "data_fraction", ["val/macro_f1", "test/macro_f1"])
    assert {series.panel for series in chart.series} == {"val/macro_f1", "test/macro_f1"}
    for series in chart.series:
        assert len(series.x) == len(series.y) == len(series.low) == len(series.high)
        assert all(
            low is None or low <= y <= high for low, y, high in zip(series.low, series.y, series.high, strict=True)
        )


def test_a_deviation_is_explained_where_there_is_one(rows):
    assert "standard deviation" in markdown(rows[:2])
    assert "standard deviation" not in markdown(rows[:1])


def test_runs_on_different_rows_stand_apart_and_say_so():
    made = [row(n, (f"data={name}",), 1, name, value) for n, (name, value) in enumerate([("a", 0.9), ("b", 0.5)])]
    for one, checksum in zip(made, ("aaaaaaaa", "bbbbbbbb"), strict=True):
        one.result["data"] = {"evaluation_checksum": checksum}
    assert "data=a (rows aaaaaa)" in markdown(made)
    assert "data=b (rows bbbbbb)" in markdown(made)


@pytest.mark.slow
def test_four_shares_of_the_rows_or_more_tell_what_more_rows_would_bring(tmp_path, store_run):
    folder = SweepFolder(tmp_path / "sweeps" / "s")
    folder.path.mkdir(parents=True)
    states = []
    for number, (share, score) in enumerate(((0.125, 0.6), (0.25, 0.7), (0.5, 0.77), (1.0, 0.82))):
        run = store_run(tmp_path, number + 1, "nb", score, score, fraction=share, n_train=round(1000 * share),
                        parameters={"alpha": 1}, group=f"g{share}")  # fmt: skip
        run.finish((run.result() or {}) | {"primary": "val/macro_f1"})
        place = f"../../runs/{run.path.name}"
        states.append(JobState(number, (f"data_fraction={share}",), status="finished", objective=score, run=place))
    table = write_results(folder, states).table
    line = next(line for line in table.splitlines() if line.startswith("| nb") and "2,000" in line)
    expected = float(line.split("|")[4].split()[0])
    assert 0.82 < expected < 0.95
    assert "What more rows would bring" in (folder.path / "aggregate.md").read_text()
    assert "What more rows would bring" not in write_results(folder, states[:3]).table

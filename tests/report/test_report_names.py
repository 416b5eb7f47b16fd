"""A report says what runs are, not when or where they ran, and its names find them again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agnews_exp.analyses.findings import Findings, Number, Table, Text, findings_to_json, table_csv
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import to_plain
from agnews_exp.core.errors import ConfigError
from agnews_exp.drawing import Chart
from agnews_exp.report.build import make_report
from agnews_exp.report.inputs import collect
from agnews_exp.report.page import render_markdown, render_page
from agnews_exp.report.systems import RunNames
from agnews_exp.report.variations import learning_curves
from agnews_exp.tracking.record import RunFolder, write_json
from agnews_exp.tracking.runs import find_runs

StoreRun = Callable[..., RunFolder]
NOVEMBER = "20261123-221530-123456-0a1b2c"


def found(output: Path, word: str) -> list[str]:
    plain = to_plain(compose_config(["data=sample", f"paths.output_dir={output}"]))
    return [run.path.name for run in find_runs(plain, [word])]


def test_the_name_of_a_lone_run_is_its_fingerprint_and_finds_it(store_run: StoreRun, tmp_path: Path) -> None:
    stored = store_run(tmp_path, 0xABCDEF0123456789, "logreg", 0.9, 0.9)
    (run,) = collect(tmp_path, None).runs
    assert run.short == "abcdef01"
    assert found(tmp_path, run.short) == [stored.path.name]


def test_systems_of_one_model_are_told_apart_by_rounded_values_and_else_by_a_fingerprint(
    store_run: StoreRun, tmp_path: Path
) -> None:
    for number, alpha in enumerate((0.6624074561769746, 0.6624174561769746, 0.25), start=1):
        more = {"parameters": {"alpha": alpha}, "name": "sgd", "group": str(number)}
        store_run(tmp_path, number << 40, "sgd", 0.9, 0.9, **more)
    labels = sorted(system.label for system in collect(tmp_path, None).systems)
    assert labels == ["sgd (alpha 0.25)", "sgd (alpha 0.6624) 000001", "sgd (alpha 0.6624) 000002"]


def test_as_many_settings_are_named_as_tell_systems_apart(store_run: StoreRun, tmp_path: Path) -> None:
    arms = ({"a": 1}, {"b": 1}, {"c": 1}, {"d": 1}, {"d": 1, "e": 1})
    for number, arm in enumerate(arms, start=1):
        parameters = dict.fromkeys("abcde", 0) | arm
        store_run(tmp_path, number << 40, "tiny", 0.9, 0.9, parameters=parameters, name="tiny", group=str(number))
    labels = sorted(system.label for system in collect(tmp_path, None).systems)
    assert labels == [
        "tiny (a 0, b 0, c 0, e 0)", "tiny (a 0, b 0, c 0, e 1)", "tiny (a 0, b 0, c 1)",
        "tiny (a 0, b 1, c 0)", "tiny (a 1, b 0, c 0)",
    ]  # fmt: skip


def test_data_efficiency_joins_what_differs_in_its_rows_alone(store_run: StoreRun, tmp_path: Path) -> None:
    arms = ((0.25, 0.1, 0), (0.5, 0.1, 0), (0.5, 0.2, 0), (0.5, 0.1, 9), (1.0, 0.1, 9))
    for number, (fraction, alpha, steps) in enumerate(arms, start=1):
        more = {"parameters": {"alpha": alpha, "steps": steps}, "fraction": fraction, "n_train": round(1000 * fraction)}
        store_run(tmp_path, number << 40, "sgd", 0.9, 0.9, name="sgd", group=str(number), **more)
    blocks = learning_curves(collect(tmp_path, None))
    (chart,) = [block for block in blocks if isinstance(block, Chart)]
    assert sorted(series.x for series in chart.series) == [(250, 500), (500, 1000)]


def test_the_report_says_what_twice_the_rows_would_bring_where_a_curve_has_four_points(
    store_run: StoreRun, tmp_path: Path
) -> None:
    for number, (fraction, score) in enumerate(((0.125, 0.7), (0.25, 0.78), (0.5, 0.84), (1.0, 0.88)), start=1):
        more = {"fraction": fraction, "n_train": round(1000 * fraction), "group": str(number)}
        store_run(tmp_path, number << 40, "sgd", score, score, name="sgd", **more)
        tables = [block for block in learning_curves(collect(tmp_path, None)) if isinstance(block, Table)]
        assert [t.name for t in tables if t.name == "more_rows"] == (["more_rows"] if number == 4 else [])
    (row,) = tables[-1].rows
    assert row[1:3] == (1000, 2000)
    assert isinstance(row[3], Number)
    assert 0.88 < (row[3].value or 0) < 0.95
    assert int(str(row[4]).partition(" ")[0].replace(",", "")) > 1000


def test_the_curves_say_which_system_is_worth_it_at_how_many_rows(store_run: StoreRun, tmp_path: Path) -> None:
    number = 0
    curves = {"early": (0.7, 0.75, 0.8, 0.82), "late": (0.5, 0.6, 0.8, 0.9)}
    for name, scores in curves.items():
        for n, score in zip((50, 100, 200, 400), scores, strict=True):
            for seed in (1, 2, 3):
                number += 1
                run = store_run(
                    tmp_path, number << 32, name, score + 0.01 * seed, score, name=name, group=f"{name} {n}",
                    fraction=n, n_train=n, seed=seed,
                )  # fmt: skip
                result = run.result() or {}
                speed = {"throughput_batch": 10.0 if name == "late" else 1000.0, "model_size_mb": 5.0}
                run.finish(result | {"metrics": result["metrics"] | speed})
    blocks = learning_curves(collect(tmp_path, None))
    (said,) = [block.text for block in blocks if isinstance(block, Text)]
    # At 200 rows both score alike, and `early` answers faster.
    assert re.search(r"early \w+ at 50, 100, 200; late \w+ at 400\.", said)
    (table,) = [block for block in blocks if isinstance(block, Table) and block.name == "worth_it"]
    assert [(row[0], str(row[1]).split()[0]) for row in table.rows][:2] == [(50, "early"), (50, "late")]
    assert table.rows[0][-2:] == (1000.0, 5.0)


def test_seeds_that_repeat_one_accident_of_the_rows_tell_no_system_from_the_best(
    store_run: StoreRun, tmp_path: Path
) -> None:
    number = 0
    for name, score, speed in (("quick", 0.80, 1000.0), ("slow", 0.81, 10.0)):
        for n in (50, 100, 200, 400):
            for seed in (1, 2, 3):
                number += 1
                more = {"name": name, "group": f"{name} {n}", "fraction": n, "n_train": n, "seed": seed}
                run = store_run(tmp_path, number << 32, name, score + 0.001 * seed, score, **more)
                result = run.result() or {}
                run.finish(result | {"metrics": result["metrics"] | {"throughput_batch": speed}})
    (said,) = [block.text for block in learning_curves(collect(tmp_path, None)) if isinstance(block, Text)]
    assert re.search(r"quick \w+ at 50, 100, 200, 400\.", said)


def test_of_two_systems_on_equally_many_rows_the_one_with_more_seeds_is_drawn(
    store_run: StoreRun, tmp_path: Path
) -> None:
    runs = ((0.5, 42, 0.99, "alone"), (0.5, 1, 0.8, "drawn"), (0.5, 2, 0.9, "drawn"), (1.0, 1, 0.95, "whole"))
    for number, (fraction, seed, score, group) in enumerate(runs, start=1):
        more = {"fraction": fraction, "n_train": round(1000 * fraction), "seed": seed, "group": group}
        store_run(tmp_path, number << 40, "sgd", score, score, name="sgd", **more)
    (chart,) = [block for block in learning_curves(collect(tmp_path, None)) if isinstance(block, Chart)]
    (ours,) = chart.series
    assert ours.y == pytest.approx((0.85, 0.95), abs=1e-3)  # the lone run has .99


def test_the_newest_run_of_a_fingerprint_is_found_and_a_beginning_of_two_is_refused(
    store_run: StoreRun, tmp_path: Path
) -> None:
    first = store_run(tmp_path, 0xABCDEF0123456789, "logreg", 0.9, 0.9)
    shutil.copytree(first.path, first.path.with_name(NOVEMBER))
    assert found(tmp_path, "abcdef01") == [NOVEMBER]
    store_run(tmp_path, 0xABCDEF0198765432, "logreg", 0.9, 0.9)
    with pytest.raises(ConfigError, match="fits 3 runs"):
        found(tmp_path, "abcdef01")


def report(output: Path) -> dict[str, str]:
    made = make_report(collect(output, None), "today", strict=True)
    tables = {block.name: table_csv(block) for block in made.blocks if isinstance(block, Table)}
    return tables | {"page": render_page(made), "markdown": render_markdown(made)}


def test_when_and_where_the_runs_ran_is_in_the_folded_table_alone(store_run: StoreRun, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there" / "outputs"
    for output, began in ((here, "20260101"), (there, "20261123")):
        fast = store_run(output, 1, "multinomial_nb", 0.88, 0.87)
        fast.path.rename(fast.path.with_name(f"{began}-101010-111111-0000a1"))
        store_run(output, 2, "tiny", 0.86, 0.91, family="transformer")
        both = store_run(output, 3, "cascade", 0.9, 0.9, family="cascade")
        word = f"model.fast={output}/runs/{began}-101010-111111-0000a1"
        write_json(both.path / "environment.json", {"cpu": "test", "command": ["agnews", "run", word]})
        found = Findings("Found", (Text(f"Of {began}-101010-111111-0000a1"),))
        write_json(both.path / "analysis" / "robustness" / "findings.json", findings_to_json(found))
    one, other = report(here), report(there)
    assert {name for name in one if one[name] != other.get(name)} == {"provenance", "page"}
    assert "model.fast=00000000" in one["runs"]
    assert "Of 00000000" in one["markdown"]
    assert "20260101-101010-111111-0000a1" in one["provenance"]


def test_a_folder_of_no_known_run_keeps_its_name(tmp_path: Path) -> None:
    names = RunNames(tmp_path)
    names.add({NOVEMBER: "abcdef01"})
    unknown = NOVEMBER.replace("22", "11")
    assert names.clean(f"x={tmp_path}/runs/{NOVEMBER} runs/{unknown}") == f"x=abcdef01 runs/{unknown}"


def test_an_arm_that_another_stage_has_run_is_an_arm_of_its_ablation(store_run: StoreRun, tmp_path: Path) -> None:
    lone = store_run(tmp_path, 1, "tiny", 0.9, 0.9, family="transformer", name="tiny-text")
    job = store_run(tmp_path, 2, "tiny", 0.8, 0.8, family="transformer", name="tiny-text")
    sweep = tmp_path / "sweeps" / "lengths"
    (sweep / "jobs").mkdir(parents=True)
    job.path.rename(sweep / "0")
    write_json(sweep / "sweep.json", {"kind": "grid", "swept": ["model.max_length"]})
    for number, (run, length) in enumerate([("0", 32), (f"../../runs/{lone.path.name}", 64)]):
        state = {"num": number, "status": "finished", "run": run, "overrides": [f"model.max_length={length}"]}
        write_json(sweep / "jobs" / f"{number}.json", state)
    (found,) = collect(tmp_path, None).sweeps
    assert [run.metrics["val/accuracy"] for run in found.jobs.values()] == [0.8, 0.9]
    rows = report(tmp_path)["varied_model_max_length_table"].splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["32", "tiny-text"], ["64", "tiny-text"]]
    assert json.loads((lone.path / "status.json").read_text())["status"] == "finished"

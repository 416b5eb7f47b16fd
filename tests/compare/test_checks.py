"""Each check fires on a built example and stays silent on a clean one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agnews_exp.compare.checks import (
    CHECKS,
    CheckedData,
    CheckedRun,
    NotApplicable,
    check_runs,
    perform_checks,
    results_table,
)
from agnews_exp.core.errors import DataError
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.csv_files import date_columns
from agnews_exp.tracking.record import RunFolder

StoreRun = Callable[..., RunFolder]
NAMES = ("rain", "sun", "wind")


def splits(**change: Any) -> Splits:
    """Three classes, 900 training, 240 validation and 240 test rows of random words, all texts different."""
    rng, parts = np.random.default_rng(0), {}
    for name, n in (("train", 900), ("validation", 240), ("test", 240)):
        labels = np.arange(n) % 3
        texts = [" ".join(f"word{w}" for w in rng.integers(0, 300, 12)) for _ in range(n)]
        parts[name] = TextRows(texts, labels, np.arange(n))
    for name, alter in change.items():
        texts, labels = [*parts[name].texts], parts[name].labels.copy()
        alter(texts, labels, parts["train"].texts)
        parts[name] = TextRows(texts, labels[: len(texts)], np.arange(len(texts)))
    return Splits(**parts, class_names=NAMES, source="built", location="here", data_checksum="c")


def name_the_label(texts, labels, _):
    texts[:] = [f"{text} {NAMES[k]}" for text, k in zip(texts, labels, strict=True)]


def copy_from_train(texts, _, train):
    texts[:20] = [text.upper() + "!" for text in train[:20]]


def nearly_copy(texts, _, train):
    texts[:20] = [text + " more" for text in train[:20]]


def contradict(texts, _, __):
    texts[:40] = [texts[0]] * 40


def shrink(_, labels, __):
    labels[labels == 2] = 0
    labels[:5] = 2


def lose(_, labels, __):
    labels[labels == 2] = 0


def other_words(texts, _, __):
    texts[:] = [text.replace("word1", "term1") for text in texts]


def no_words(texts, _, __):
    texts[:50] = ["..."] * 50


def one_sided(_, labels, __):
    labels[20:] = 0


DATA = {
    "D1": {"train": name_the_label}, "D2": {"test": copy_from_train}, "D3": {"test": nearly_copy},
    "D4": {"train": contradict}, "D5": {"test": shrink}, "D6": {"validation": lose}, "D7": {"validation": other_words},
    "D8": {"test": other_words}, "D9": {"train": no_words}, "D10": {"train": one_sided},
}  # fmt: skip


def dated(clumped: bool, newer: bool = False) -> CheckedData:
    """The rows of `splits`, of which a class has its own days or none has; test rows may be from after the training."""
    made, dates = splits(), {}
    for name in ("train", "validation", "test"):
        rows, rng = vars(made)[name], np.random.default_rng(len(name))
        days = rng.integers(0, 300, len(rows)) if not clumped else 100 * rows.labels + rng.integers(0, 90, len(rows))
        days += 400 * (newer and name == "test")
        moments = np.datetime64("2020-01-01T00:00:00.000000") + days * np.timedelta64(1, "D")
        dates["val" if name == "validation" else name] = moments.astype(str).tolist()
    return CheckedData(**vars(made), dates={"day": dates})


def test_time_leaks_where_rows_of_one_time_share_their_class_and_are_on_both_sides(tmp_path: Path) -> None:
    assert "day" in str(CHECKS["D11"].function(dated(clumped=True)))
    assert CHECKS["D11"].function(dated(clumped=False)) is None
    assert CHECKS["D11"].function(dated(clumped=True, newer=True)) is None
    assert isinstance(CHECKS["D11"].function(splits()), NotApplicable)
    later = CheckedData(**vars(splits(validation=other_words)) | {"split": "time"})  # unlike by design
    assert isinstance(CHECKS["D7"].function(later), NotApplicable)
    lines = [f"text number {i},{'ab'[i % 2]},2026-01-{1 + i % 28:02d},{i}-x,{i % 3}" for i in range(60)]
    (tmp_path / "my.csv").write_text("text,label,day,code,n\n" + "\n".join(lines) + "\n")
    part = TextRows(["", ""], np.array([0, 1]), np.array([0, 59]))
    parts = {"train": TextRows([""] * 60, np.arange(60) % 2, np.arange(60)), "val": part, "test": part}
    data = {"name": "my", "text_columns": ["text"], "label_column": "label", "train_file": str(tmp_path / "my.csv"),
            "delimiter": "auto", "quoting": "auto", "encoding": "auto", "has_header": True}  # fmt: skip
    found = date_columns(data, parts)
    assert list(found) == ["day"]
    assert [moment[:10] for moment in found["day"]["test"]] == ["2026-01-01", "2026-01-04"]
    assert date_columns({"name": "sample"}, parts) == {}


def test_checks_of_data_fire_on_what_is_built_in_and_are_silent_without() -> None:
    clean = {result.check.code: result.answer for result in perform_checks("D", dated(clumped=False), "built")}
    assert clean == dict.fromkeys([*DATA, "D11"])
    for code, change in DATA.items():
        assert isinstance(CHECKS[code].function(splits(**change)), str), code


@pytest.fixture
def stored(store_run: StoreRun, tmp_path: Path) -> Callable[..., CheckedRun]:
    """Return a maker of checked runs: `stored(model, val, test, metrics={}, notes=[], history=[], ...)`."""

    def make(model: str = "logreg", val: float = 0.9, test: float = 0.9, **more: Any) -> CheckedRun:
        number = more.pop("number", len(list(tmp_path.glob("runs/*"))) + 1)
        metrics, notes, history = more.pop("metrics", {}), more.pop("notes", []), more.pop("history", [])
        run = store_run(tmp_path, number, model, val, test, **more)
        result = run.result() or {}
        extra = {"clusters": more.pop("clusters")} if "clusters" in more else {}
        run.finish(result | {"metrics": result["metrics"] | metrics, "notes": notes} | extra)
        lines = [json.dumps({"step": i, "curve/val_macro_f1": v}) for i, v in enumerate(history)]
        (run.path / "history.jsonl").write_text("\n".join(lines) + '\n{"step": 9', encoding="utf-8")
        return CheckedRun(run.path)

    return make


RUN = {
    "T1": ({"val": 0.25}, {}),
    "T2": ({"metrics": {"train/macro_f1": 1.0}, "val": 0.8}, {"metrics": {"train/macro_f1": 0.95}}),
    "T3": ({"notes": ["Liblinear failed to converge, increase the number of iterations."]}, {"notes": ["hello"]}),
    "T4": ({"history": [0.8, 0.85, 0.9]}, {"history": [0.8, 0.9, 0.89]}),
    "T6": ({"metrics": {"val/log_loss": 3.0}}, {"metrics": {"val/log_loss": 0.3}}),
    "T7": (
        {"metrics": {"test/ece_before": 0.02, "test/ece_after": 0.2, "test/nll_before": 0.3, "test/nll_after": 0.5}},
        {"metrics": {"test/ece_before": 0.2, "test/ece_after": 0.02, "test/nll_before": 0.5, "test/nll_after": 0.3}},
    ),
    "T8": ({"val": 0.95, "test": 0.6}, {"val": 0.92}),
    "T10": ({"clusters": {"test": {"shared": 0.4}}}, {"clusters": {"test": {"shared": 0.0}}}),
    "T9": ({"metrics": {"train/macro_f1": 0.61, "val/macro_f1": 0.6}}, {"metrics": {"train/macro_f1": 0.93}}),
}  # fmt: skip


def test_checks_of_a_run_fire_on_what_is_built_in_and_are_silent_without(stored: Callable[..., CheckedRun]) -> None:
    for code, (built, clean) in RUN.items():
        assert isinstance(CHECKS[code].function(stored(**built)), str), code
        assert CHECKS[code].function(stored(**clean)) is None, code
    assert isinstance(CHECKS["T1"].function(stored("dummy", 0.25)), NotApplicable)


def test_a_class_that_is_never_answered_is_named(stored: Callable[..., CheckedRun]) -> None:
    run = stored()
    given = run.validation[1]
    assert CHECKS["T5"].function(run) is None
    given.labels[given.labels == 1] = 0
    assert isinstance(said := CHECKS["T5"].function(run), str)
    assert run.result["class_names"][1] in said


def test_checks_of_comparisons_fire_on_what_is_built_in_and_are_silent_without(
    stored: Callable[..., CheckedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, third = stored(val=0.95), stored("knn", val=0.7), stored("nb", val=0.5)
    twins = [stored("nb", val=0.8, group="nb", seed=s) for s in (1, 2)]
    twins[1].validation = twins[0].validation
    seeds = [stored("tiny", val=0.8, group="tiny", seed=s, family="transformer") for s in (1, 2)]
    ties = [stored(f"m{i}", val=0.80) for i in range(12)]
    net = stored("bert", val=0.6, family="transformer", metrics={"throughput_batch": 10.0})
    good = stored("bert", val=0.999, family="transformer")
    blend = stored("blend", val=0.99, family="cascade")
    grid = [stored("svc", val=v, parameters={"C": c}) for c, v in ((1, 0.7), (2, 0.75), (4, 0.9))]
    choosing = [stored("cascade", number=90 + i, parameters={"target": "accuracy", "value": i / 10}) for i in range(3)]
    middle = [*grid[:2], stored("svc", val=0.6, parameters={"C": 4})]
    cases: dict[str, tuple[list[CheckedRun], list[CheckedRun]]] = {
        "C1": (twins, seeds), "C2": ([one] * 20, [one, other]), "C3": (ties, [one, other, third]),
        "C4": (ties[:2], [one, other]), "C5": ([one, blend], [one, other]), "C6": ([net], seeds),
        "C7": ([one, net], [one, good]), "C8": (grid, middle),
        "C9": (choosing, choosing[:2]),
    }  # fmt: skip
    for code, (built, clean) in cases.items():
        assert isinstance(CHECKS[code].function(built), str), code
        assert CHECKS[code].function(clean) is None, code
    assert len(CHECKS) == len(DATA) + len(RUN) + 2 + len(cases) >= 20  # every check has its example
    assert isinstance(CHECKS["C6"].function([one]), NotApplicable)


def test_findings_come_gravest_first_and_equal_ones_of_several_runs_are_one_row(
    stored: Callable[..., CheckedRun],
) -> None:
    runs = [stored(metrics={"val/log_loss": 3.0}), stored("nb", metrics={"val/log_loss": 3.0}), stored("knn", val=0.2)]
    table = results_table(check_runs(runs))
    assert [row[0] for row in table.rows][:2] == ["T1", "T6"]
    assert "and 1 more" in str(table.rows[1][3])
    everything = results_table(check_runs(runs), everything=True)
    assert {"T4", "C6"} <= {row[0] for row in everything.rows}
    assert "not applicable" in table.note


def test_the_command_names_codes_and_strict_exits_with_2(
    stored: Callable[..., CheckedRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from agnews_exp.cli import run_command

    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    run = stored(val=0.2)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "runs").rename(tmp_path / "outputs" / "runs")
    run_command(["check"])
    shown = capsys.readouterr().out
    assert "T1" in shown
    assert "are not checked" in shown  # the data of this run are not there
    lines = [line for line in shown.splitlines() if "not checked" not in line]
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith("fix: look at the data (agnews eda)") for line in lines)  # a line of its own
    with pytest.raises(DataError, match="T1") as refused:
        run_command(["check", run.folder.name, "--strict"])
    assert refused.value.exit_code == 2


@pytest.mark.slow
def test_the_sample_corpus_passes_all_checks_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    from agnews_exp.cli import run_command

    run_command(["check", "data=sample", "--strict"])
    assert capsys.readouterr().out.strip() == "10 fine, 1 not applicable"

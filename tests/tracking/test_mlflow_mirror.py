"""MLflow says what the folders say, in any store, however often it is told."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from agnews_exp.core.errors import AgnewsError, Pruned
from agnews_exp.tracking import record
from agnews_exp.tracking.mlflow_mirror import Store, mirror, mlflow_run_of, sync_runs
from agnews_exp.tracking.runs import find

ONE = "runs/20260101-000000-000000-aaaaaa"
NO_PROCESS = 2**22 + 1


def client_of(plain):
    store = Store(plain)
    experiment_id, _ = store.experiment()
    return store.client, store.client.search_runs([experiment_id])


def runs_of(plain):
    return client_of(plain)[1]


def set_status(folder, **changes):
    record.write_json(folder.path / record.STATUS, {**record.read_json(folder.path / record.STATUS), **changes})


def test_a_finished_run_is_mirrored_once_with_its_headline_and_its_true_times(records):
    folder = records.finished(ONE, "model.alpha=0.5", "features.blocks.word.max_features=500")
    plain = records.plain()
    run_id = mirror(folder.path, Store(plain))
    assert mirror(folder.path, Store(plain)) == run_id
    client, (run,) = client_of(plain)
    status = record.read_json(folder.path / record.STATUS)
    times = [int(datetime.fromisoformat(status[key]).timestamp() * 1000) for key in ("started", "updated")]
    assert (run.info.status, [run.info.start_time, run.info.end_time]) == ("FINISHED", times)
    assert run.info.run_name == "multinomial_nb-word_tfidf-aaaa"
    assert next(iter(json.loads((folder.path / "tracking.json").read_text()))) == "run_id"
    params = run.data.params
    assert {"model": "multinomial_nb", "model.alpha": "0.5", "seed": "42"}.items() <= params.items()
    assert params["features.blocks.word.max_features"] == "500", "what the command set is a parameter"
    assert 8 <= len(params) <= 20
    assert run.data.metrics["val/macro_f1"] == 0.8
    assert len(run.data.metrics) <= 15
    assert not any("f1/a" in name for name in run.data.metrics)
    assert run.data.tags["run_folder"] == ONE
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type", "host", "fingerprint"} <= set(run.data.tags)
    assert "| macro_f1 | 0.8000 | 0.8000 |" in run.data.tags["mlflow.note.content"]
    artifacts = {found.path for found in client.list_artifacts(run_id)}
    assert {"result.json", "config.yaml", "environment.json", "figures"} <= artifacts
    assert sorted(given.tags[0].value for given in run.inputs.dataset_inputs) == ["test", "train", "val"]


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [("failed", "no such word", "FAILED"), ("killed", "Terminated", "KILLED"),
     ("pruned", str(Pruned(3, 0.25)), "FINISHED")],
)  # fmt: skip
def test_a_run_that_ends_otherwise_says_why(records, status, reason, said):
    folder = records.begun(ONE)
    store = Store(records.plain())
    mirror(folder.path, store)
    (run,) = runs_of(records.plain())
    assert run.info.status == "RUNNING"
    folder.abandon(status, reason, pruned={"step": 3, "value": 1 / 3} if status == "pruned" else None)
    mirror(folder.path, store)
    (run,) = runs_of(records.plain())
    assert run.info.status == said
    assert run.data.tags["reason"] == reason
    assert reason in run.data.tags["mlflow.note.content"]
    if status == "pruned":
        assert run.data.tags["pruned.step"] == "3"
        assert run.data.metrics["pruned/val_macro_f1"] == 1 / 3


def test_curves_are_sent_while_a_run_works_and_never_twice(records):
    folder = records.begun(ONE)
    history = folder.path / record.HISTORY
    store = Store(records.plain())
    lines = [json.dumps({"step": step, "time": 1000 + step, "curve/train_loss": 1 / (1 + step)}) for step in range(4)]
    history.write_text("\n".join(lines[:2]) + "\n")
    mirror(folder.path, store)
    history.write_text("\n".join(lines) + '\n{"step": 4, "ti')
    run_id = mirror(folder.path, store)
    mirror(folder.path, Store(records.plain()))  # another process, which sends all of them again
    points = store.client.get_metric_history(run_id, "curve/train_loss")
    assert sorted(point.step for point in points) == [0, 1, 2, 3]


def test_a_run_that_goes_on_goes_on_in_mlflow(records):
    folder = records.begun(ONE)
    store = Store(records.plain())
    first = mirror(folder.path, store)
    folder.abandon("killed", "Terminated")
    mirror(folder.path, store)
    assert mirror(records.begun(ONE).path, store) == first
    assert [run.info.status for run in runs_of(records.plain())] == ["RUNNING"]


def test_an_interrupted_attempt_leaves_no_second_run(records):
    folder = records.finished(ONE)
    first = mirror(folder.path, Store(records.plain()))
    (folder.path / record.TRACKING).unlink()  # it died before it could note the id
    assert mirror(folder.path, Store(records.plain())) == first
    assert len(runs_of(records.plain())) == 1


@pytest.mark.slow
def test_sync_fills_any_store_and_knows_each_again(records, tmp_path):
    records.finished(ONE)
    here, there = records.plain(), records.plain(f"tracking.uri=sqlite:///{tmp_path}/other.db")
    assert [sync_runs(plain)[0] for plain in (here, there, here, there)] == [1, 1, 0, 0]
    assert [len(runs_of(plain)) for plain in (here, there)] == [1, 1]
    assert mlflow_run_of(here, records.outputs / ONE)[1] == runs_of(here)[0].info.run_id
    anew = records.plain(f"paths.mlruns_dir={tmp_path}/anew")  # as after the store was deleted
    assert sync_runs(anew) == (1, 0)


def test_sync_closes_what_a_dead_process_left_running_and_leaves_living_ones_alone(records):
    dead, alive = records.begun(ONE), records.begun("runs/20260101-000000-000000-bbbbbb")
    for folder in (dead, alive):
        mirror(folder.path, Store(records.plain()))
    set_status(dead, pid=NO_PROCESS)
    sync_runs(records.plain())
    ends = {run.info.run_name[-4:]: run.info.status for run in runs_of(records.plain())}
    assert ends == {"aaaa": "KILLED", "bbbb": "RUNNING"}


def test_a_clock_that_went_back_gives_no_negative_time_and_one_that_went_forward_closes_no_living_run(records):
    later, earlier = "2026-01-01T11:00:00.000+00:00", "2026-01-01T10:00:00.000+00:00"
    back = records.finished(ONE)
    set_status(back, started=later, updated=earlier)
    alive = records.begun("runs/20260101-000000-000000-bbbbbb")
    mirror(alive.path, Store(records.plain()))
    set_status(alive, updated=earlier)  # it began, by the clock of today, after it wrote this
    sync_runs(records.plain())
    ends = {run.info.run_name[-4:]: run.info for run in runs_of(records.plain())}
    assert ends["aaaa"].end_time == ends["aaaa"].start_time
    assert ends["bbbb"].status == "RUNNING"
    assert find(records.plain(), "latest").folder == back.path


def test_sync_closes_a_run_whose_folder_is_gone(records):
    folder = records.begun(ONE)
    store = Store(records.plain())
    run_id = mirror(folder.path, store)
    store.client.set_tag(run_id, "pid", str(NO_PROCESS))
    shutil.rmtree(folder.path)
    sync_runs(records.plain())
    assert [run.info.status for run in runs_of(records.plain())] == ["KILLED"]


def test_sync_names_a_damaged_record_and_goes_on(records, caplog):
    records.finished(ONE)
    bad = records.finished("runs/20260101-000000-000000-bbbbbb")
    (bad.path / "result.json").write_text("{")
    assert sync_runs(records.plain()) == (1, 1)
    assert "bbbbbb" in caplog.text


@pytest.mark.slow
def test_a_sweep_stands_above_its_jobs_in_every_store(records, tmp_path):
    records.finished(ONE, "seed=7", fingerprint="7" * 16, score=0.9)
    states = {
        0: {"status": "finished", "run": "0"},
        1: {"status": "failed", "reason": "boom"},
        2: {"status": "finished", "run": f"../../{ONE}"},
        3: {"status": "killed", "reason": "the sweep was interrupted"},
    }
    sweep = records.sweep("s", states)
    results = {"note": "| the | table |", "metrics": {"best_objective": 0.9}, "artifacts": ["jobs.csv"]}
    record.write_json(sweep / "mlflow.json", results)
    (sweep / "jobs.csv").write_text("job\n0\n")
    records.finished("sweeps/s/0")
    for num, status in ((1, "failed"), (3, "failed")):
        records.begun(f"sweeps/s/{num}").abandon(status, "boom")
    for plain in (records.plain(), records.plain(f"tracking.uri=sqlite:///{tmp_path}/other.db")):
        assert sync_runs(plain) == (4, 0)
        client, runs = client_of(plain)
        (parent,) = [run for run in runs if run.data.tags.get("kind") == "sweep"]
        assert (parent.info.status, parent.info.run_name) == ("FINISHED", "s")
        assert parent.info.end_time - parent.info.start_time == 3_600_000
        assert parent.data.tags["sweep.command"] == "run.py -m x"
        assert parent.data.tags["mlflow.note.content"] == "| the | table |"
        assert parent.data.metrics["val/macro_f1"] == 0.9, "the best value stands under the name it has for jobs"
        assert [found.path for found in client.list_artifacts(parent.info.run_id)] == ["jobs.csv"]
        jobs = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
        ends = {name: run.info.status for name, run in jobs.items()}
        assert ends == {"s/0": "FINISHED", "s/1": "FAILED", "s/2": "FINISHED", "s/3": "KILLED"}
        assert {run.data.tags["mlflow.parentRunId"] for run in jobs.values()} == {parent.info.run_id}
        assert jobs["s/2"].data.tags["reused"] == ONE
        assert jobs["s/2"].data.metrics["val/macro_f1"] == 0.9
        assert sync_runs(plain) == (0, 0)
    info = record.read_json(sweep / "sweep.json")
    record.write_json(sweep / "sweep.json", info | {"status": "running", "resumed": "2026-01-02T05:00:00+00:00"})
    mirror(sweep, Store(plain))
    assert client.get_run(parent.info.run_id).info.status == "RUNNING", "the sweep goes on"


def test_a_moved_project_keeps_to_its_new_place(records):
    records.finished(ONE)
    sync_runs(records.plain())
    (before,) = runs_of(records.plain())
    old = records.root
    records.root = old.with_name("moved")
    old.rename(records.root)
    records.finished("runs/20260101-000000-000000-bbbbbb", "seed=2", fingerprint="b" * 16)
    plain = records.plain()
    assert sync_runs(plain) == (1, 0)
    client, runs = client_of(plain)
    for run in runs:
        place = Path(run.info.artifact_uri.removeprefix("file://"))
        assert place.is_relative_to(records.root)
        assert (place / "result.json").is_file()
    experiments = client.search_experiments()
    assert all(str(records.root) in found.artifact_location for found in experiments)
    assert not old.exists()
    assert find(plain, before.info.run_id).folder == records.outputs / ONE
    assert sync_runs(plain) == (0, 0)


def test_a_copied_project_leaves_the_original_alone(records):
    records.finished(ONE)
    sync_runs(records.plain())
    first = records.root
    copy = first.with_name("copy")
    shutil.copytree(first, copy)
    for root in (copy, first):
        records.root = root
        (run,) = runs_of(records.plain())
        assert str(root) in run.info.artifact_uri


def test_a_run_that_is_not_in_mlflow_says_what_to_do(records):
    folder = records.finished(ONE)
    with pytest.raises(AgnewsError, match="agnews sync"):
        mlflow_run_of(records.plain(), folder.path)

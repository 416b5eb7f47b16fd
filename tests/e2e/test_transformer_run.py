"""`python run.py model=tiny`: a transformer through the real command, resumed, on two processes, out of memory."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

QUICK = (
    "model=tiny",
    "data=sample",
    "trainer=cpu",
    "trainer.n_jobs=1",
    "trainer.max_epochs=1",
    "evaluation.latency_repeats=0",
)


def test_tiny_chooses_text_features_by_itself_and_logs_one_complete_run_without_anything_to_resume(project):
    import mlflow
    from mlflow.tracking import MlflowClient

    done = project.run(*QUICK, "resume=auto", "trainer.log_every_n_steps=5", "tracking.system_metrics=false")
    assert done.returncode == 0, done.stdout + done.stderr
    result = project.result()
    assert result["features"] == "text"
    assert result["metrics"]["test/macro_f1"] > 0.35, "one epoch is little, but more than the .1 of a single class"
    (folder,) = project.run_folders
    assert not (folder / "checkpoints").exists()
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= {
        p.name for p in (folder / "model").iterdir()
    }
    (run,) = project.mlflow_runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val/macro_f1"] == pytest.approx(result["metrics"]["val/macro_f1"])
    uri = f"sqlite:///{project.root}/mlruns/mlflow.db"
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "curve/train_loss")
    steps = [point.step for point in history]
    assert steps == sorted(set(steps))
    assert len(steps) >= 20
    for name in ("learning_rate", "samples_per_second", "tokens_per_second", "padding_share", "val_macro_f1"):
        assert f"curve/{name}" in run.data.metrics
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    texts = np.asarray(
        ["The striker scored twice in the cup final", "Shares fell as the bank cut its forecast"], object
    )
    assert [result["class_names"][i] for i in model.predict(texts)] == ["Sports", "Business"]
    assert not [p for p in (project.root / "mlruns").rglob("*") if p.suffix in (".pkl", ".bin", ".pt", ".pth")]


def test_transformer_refuses_tfidf_features(project):
    done = project.run("model=distilbert", "features=word_tfidf", "data=sample")
    assert done.returncode == 2
    assert "features=text" in done.stderr


@pytest.mark.slow
def test_pretrained_weights_that_cannot_be_had_end_with_what_to_do(project):
    done = project.run("model=distilbert", "data=sample", "tracking=none", env={"HF_HOME": str(project.root / "hub")})
    assert done.returncode == 2, done.stderr
    assert "model.pretrained_path" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.statuses() == ["failed"]


def kill_in_training(project, *overrides, steps, where="outputs/runs/*"):
    """Start, and SIGKILL once this many optimiser steps are in the history and a checkpoint is there."""
    process = project.start(*overrides)
    deadline = time.monotonic() + 300
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, process.stdout.read()
            for folder in project.root.glob(where):
                path = folder / "history.jsonl"
                lines = path.read_text().count("\n") if path.exists() else 0
                if lines >= steps and (folder / "checkpoints" / "last.ckpt").exists():
                    return
            time.sleep(0.01)
        pytest.fail("the training never came that far")
    finally:
        process.kill()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.mark.slow
def test_killed_run_is_resumed_in_its_folder_and_mlflow_run_with_equal_weights(project, make_project, tmp_path):
    command = (
        *QUICK,
        "data_fraction=0.3",
        "trainer.log_every_n_steps=1",
        "trainer.checkpoint_every_n_steps=4",
        "tracking.system_metrics=false",
        "tracking.log_model=false",
    )
    whole = make_project(tmp_path / "whole")
    assert whole.run(*command).returncode == 0
    kill_in_training(project, *command, steps=10)
    assert project.statuses() == ["running"]
    done = project.run(*command, "resume=auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Going on with" in done.stderr + done.stdout
    (folder,) = project.run_folders
    assert project.statuses() == ["finished"]
    assert [run.info.status for run in project.mlflow_runs()] == ["FINISHED"]
    expected = load_file(whole.run_folders[0] / "model" / "model.safetensors")
    for name, values in load_file(folder / "model" / "model.safetensors").items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    tables = [pq.read_table(p / "predictions.parquet") for p in (folder, whole.run_folders[0])]
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_two_processes_make_one_run_and_judge_every_row_once(project):
    done = project.run(
        *QUICK,
        "trainer=ddp",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.batch_size=33",
        "data_fraction=0.1",
        "tracking.system_metrics=false",
        "tracking.log_model=false",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = project.run_folders
    assert [run.info.status for run in project.mlflow_runs()] == ["FINISHED"]
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    for split, rows in project.result()["data"]["rows"].items():
        if split != "train":
            part = table[table["split"] == split]
            assert len(part) == part["row_id"].nunique() == rows
    points = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert {point["curve/epoch"] for point in points if "curve/epoch" in point} == {1.0}, (
        "epochs count from 1, as in the log"
    )
    (validated,) = [point["curve/val_macro_f1"] for point in points if "curve/val_macro_f1" in point]
    assert validated == pytest.approx(project.result()["metrics"]["val/macro_f1"], abs=1e-6)


@pytest.mark.slow
def test_sweep_over_runs_of_two_processes_nests_one_run_a_job_and_judges_every_row_once(project):
    done = project.run(
        "-m",
        *QUICK,
        "trainer=ddp",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.limit_train_batches=3",
        "seed=1,2",
        "tracking.system_metrics=false",
        "tracking.log_model=false",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = project.mlflow_runs()
    (sweep,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    jobs = [run for run in runs if run is not sweep]
    assert [run.data.tags["mlflow.parentRunId"] for run in jobs] == [sweep.info.run_id] * 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    folders = sorted(path.parent for path in project.root.glob("outputs/sweeps/*/*/result.json"))
    assert len(folders) == 2
    for folder in folders:
        table = pq.read_table(folder / "predictions.parquet").to_pandas()
        for split in ("val", "test"):
            part = table[table["split"] == split]
            assert len(part) == part["row_id"].nunique() == project.result(folder)["data"]["rows"][split]
        assert not list(folder.rglob(".ranks-*"))


@pytest.mark.slow
def test_killed_sweep_goes_on_in_the_middle_of_a_training(project):
    command = (
        "-m",
        *QUICK,
        "resume=auto",
        "seed=1",
        "data_fraction=0.2,0.3",
        "trainer.log_every_n_steps=1",
        "trainer.checkpoint_every_n_steps=4",
        "tracking=none",
    )
    kill_in_training(project, *command, steps=10, where="outputs/sweeps/*/0")
    (folder,) = project.root.glob("outputs/sweeps/*/0")
    before = (folder / "history.jsonl").read_text()
    done = project.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    after = (folder / "history.jsonl").read_text().splitlines()
    assert before.splitlines()[0] == after[0]  # the time of the first step: it was not taken again
    steps = [point["step"] for point in map(json.loads, after) if "curve/train_loss" in point]
    assert steps == list(range(1, len(steps) + 1))
    assert len(list(project.root.glob("outputs/sweeps/*/*/result.json"))) == 2

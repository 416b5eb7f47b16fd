"""A whole run through the real entry point: what it leaves on disk, in MLflow and in the terminal."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import accuracy_score, f1_score

from agnews_exp.drawing import read_chart

FAST = ("data=sample", "features=word_tfidf", "model=multinomial_nb", "evaluation.latency_repeats=0")


def test_default_run_leaves_a_complete_record_whose_metrics_follow_from_its_predictions(cold_project):
    project = cold_project
    done = project.run("data=sample", "tracking=none")
    assert done.returncode == 0, done.stderr
    (folder,) = project.run_folders
    assert project.statuses() == ["finished"]
    result = project.result()
    assert (result["model"], result["features"]) == ("linear_svc", "hybrid_tfidf")
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    for split in ("val", "test"):
        rows = table[table["split"] == split]
        assert len(rows) == result["data"]["rows"][split]
        expected = f1_score(rows["label"], rows["prediction"], average="macro")
        assert result["metrics"][f"{split}/macro_f1"] == pytest.approx(expected, abs=1e-12)
        assert result["metrics"][f"{split}/accuracy"] == pytest.approx(
            accuracy_score(rows["label"], rows["prediction"]), abs=1e-12
        )
        scores = rows[[c for c in table.columns if c.startswith("score:")]].to_numpy()
        np.testing.assert_array_equal(scores.argmax(axis=1), rows["prediction"])
    assert result["objective"] == result["metrics"]["val/macro_f1"]
    assert 0.85 <= result["metrics"]["test/macro_f1"] <= 0.97
    for name in ("load", "features", "fit", "predict", "save"):
        assert result["timings"][name] > 0
    for name in ("throughput_batch", "throughput_single", "model_size_mb", "peak_memory_mb", "n_features"):
        assert result["metrics"][name] > 0
    drawn = read_chart(folder / "figures" / "confusion_test.json")
    assert drawn.texts[0][0].split()[0] == str(result["confusion"]["test"][0][0])
    assert not list(folder.rglob("*.png")), "a run draws nothing"
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["C"] == 1.0


def test_terminal_shows_metrics_the_run_folder_and_the_next_command(project):
    done = project.run(*FAST, "tracking=none")
    assert done.returncode == 0, done.stderr
    (folder,) = project.run_folders
    shown = project.result()["metrics"]["test/macro_f1"]
    assert f"{shown:.4f}" in done.stdout
    assert folder.name in done.stdout
    assert "agnews ui" in done.stdout
    logged = next(line for line in (folder / "run.log").read_text().splitlines() if "loading" in line)
    assert "[INFO] - loading" in logged
    shown = next(line for line in done.stdout.splitlines() if "loading" in line)
    assert shown == f"{logged[12:20]}{logged.partition('] -')[2]}", "a terminal gets time and message"


def test_mlflow_run_holds_params_metrics_tags_inputs_artifacts_and_a_model_that_answers(project):
    import mlflow
    from mlflow.tracking import MlflowClient

    done = project.run(*FAST, "model.alpha=0.5", "tags={purpose: check}")
    assert done.returncode == 0, done.stderr
    (run,) = project.mlflow_runs()
    result = project.result()
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("multinomial_nb-word_tfidf-")
    assert run.data.params["model"] == "multinomial_nb"
    assert run.data.params["model.alpha"] == "0.5"
    assert run.data.params["data_fraction"] == "1.0"
    assert run.data.metrics["test/macro_f1"] == pytest.approx(result["metrics"]["test/macro_f1"])
    assert run.data.tags["fingerprint"] == result["fingerprint"]
    assert run.data.tags["data.checksum"] == result["data"]["checksum"]
    assert run.data.tags["purpose"] == "check"
    assert {i.tags[0].value for i in run.inputs.dataset_inputs} == {"train", "val", "test"}
    uri = f"sqlite:///{project.root}/mlruns/mlflow.db"
    artifacts = {a.path for a in MlflowClient(uri).list_artifacts(run.info.run_id)}
    assert {"config.yaml", "predictions.parquet", "classification_report.csv", "figures"} <= artifacts
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    texts = np.asarray(["The striker scored twice in the final", "Shares fell as the bank cut its forecast"], object)
    answers = model.predict(texts)
    assert [result["class_names"][i] for i in answers] == ["Sports", "Business"]
    assert "sklearn" in model.metadata.flavors
    assert model.metadata.flavors["sklearn"]["serialization_format"] == "skops"


def test_finished_run_is_not_repeated_unless_forced(project):
    assert project.run(*FAST, "tracking=none").returncode == 0
    again = project.run(*FAST, "tracking=none", "trainer.n_jobs=1", "name=another")
    assert again.returncode == 0, again.stderr
    assert "Already finished" in again.stdout
    assert f"{project.result()['metrics']['test/macro_f1']:.4f}" in again.stdout
    assert len(project.run_folders) == 1
    forced = project.run(*FAST, "tracking=none", "force=true")
    assert "Already finished" not in forced.stdout
    assert len(project.run_folders) == 2


def test_every_scientific_change_is_a_new_run(project):
    changes = ("seed=42", "seed=43", "model.alpha=0.2", "data_fraction=0.5", "split_seed=7")
    for change in changes:
        assert project.run(*FAST, "tracking=none", change).returncode == 0
    results = [project.result(p) for p in project.run_folders]
    assert len({result["fingerprint"] for result in results}) == len(changes)
    assert [result.get("subset_seed") for result in results].count(42) == 1  # one run draws rows, by the split's seed


@pytest.mark.slow
def test_same_command_gives_identical_predictions_whatever_hash_seed_and_folder(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = (
        "data=sample", "data_fraction=0.3", "model=sgd_modified_huber", "features=hybrid_tfidf", "tracking=none",
        "force=true", "evaluation.latency_repeats=0",
    )  # fmt: skip
    first = project.run(*command, env={"PYTHONHASHSEED": "1"})
    second = project.run(*command, env={"PYTHONHASHSEED": "2"}, cwd=elsewhere)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    one, two = (pq.read_table(p / "predictions.parquet") for p in project.run_folders)
    assert one.equals(two)


@pytest.mark.slow
def test_python_m_sweeps_a_scalar_fraction(project):
    done = project.run("-m", *FAST, "tracking=none", "data_fraction=0.25,0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    results = list((project.root / "outputs" / "sweeps").glob("*/*/result.json"))
    assert len(results) == 2


def test_a_stored_run_of_other_code_is_not_reused_and_one_of_other_libraries_is_said(project):
    words = (*FAST, "tracking=none")
    assert project.run(*words).returncode == 0
    (folder,) = project.run_folders
    environment = json.loads((folder / "environment.json").read_text())
    older = environment | {"packages": environment["packages"] | {"numpy": "1.0.0"}}
    (folder / "environment.json").write_text(json.dumps(older))
    same = project.run(*words, "name=mine")
    assert "numpy 1.0.0 (now" in same.stdout + same.stderr
    assert "mine" in same.stdout, "a name that was given is used"
    assert project.run_folders == [folder]
    (folder / "environment.json").write_text(json.dumps(environment | {"source": "0" * 16}))
    again = project.run(*words)
    assert "the source code has changed" in again.stdout + again.stderr
    assert len(project.run_folders) == 2


def test_a_saved_configuration_runs_into_runs_and_the_last_name_that_was_given_is_used(project):
    assert project.run(*FAST, "tracking=none").returncode == 0
    (folder,) = project.run_folders
    again = project.run(f"--config-path={folder}", "--config-name=config", "name=mine")
    assert "Already finished" in again.stdout, again.stderr
    assert "mine" in project.agnews("top").stdout
    for words in (["force=true"], ["-m", "seed=1,2"]):
        done = project.run(f"--config-path={folder}", "--config-name=config", *words)
        assert done.returncode == 0, done.stderr
    assert len(project.run_folders) == 4
    assert {path.name for path in project.root.iterdir()} == {"outputs"}
    for flags in ([], ["-m"]):
        refused = project.run(*flags, f"--config-dir={folder}", "--config-name=config")
        assert refused.returncode == 2
        assert f"fix: python run.py --config-path={folder} --config-name=config" in refused.stderr

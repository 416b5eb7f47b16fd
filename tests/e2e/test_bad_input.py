"""Bad input through the real command: a message that names key, value, what is allowed and the fix."""

from __future__ import annotations

import pytest

SAMPLE = ("data=sample", "tracking=none")


def test_bad_overrides_are_explained_without_a_traceback(project):
    for overrides, word in (
        (("seed=-1",), "greater than or equal to 0"),
        (("model=linear_svm",), "Did you mean 'linear_svc'?"),
        (("features.blocks.word.max_feature=9",), "Did you mean features.blocks.word.max_features=9"),
        (("model=multinomial_nb", "features=text"), "model=multinomial_nb"),
        (("tags={a:1",), "quote"),
    ):
        done = project.run(*SAMPLE, *overrides)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert done.stderr.startswith("error: ")
        assert word in done.stderr


def test_missing_file_is_named_with_the_key_that_points_to_it(project):
    done = project.run("data=csv", "data.train_file=nowhere.csv", "tracking=none")
    assert done.returncode == 2
    assert "nowhere.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.statuses() == ["failed"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("no rows",)),
        ("text,label\n", ("no rows",)),
        ("text,label\nfirst news,World\nsecond news,World\n", ("one class", "only the class", "at least two")),
    ],
)
def test_useless_csv_is_refused_before_anything_is_trained(project, content, words):
    path = project.root / "mine.csv"
    path.write_text(content)
    done = project.run("data=csv", f"data.train_file={path}", "tracking=none")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "mine.csv" in done.stderr
    assert any(word in done.stderr.lower() for word in words), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["/dev/null/outputs", "/sys/agnews-outputs"])
def test_unwritable_folder_is_a_storage_error(project, folder):
    done = project.run(*SAMPLE, f"paths.output_dir={folder}")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "error: /" in done.stderr
    assert "paths.output_dir" in done.stderr
    assert "Traceback" not in done.stderr


def test_unwritable_mlruns_costs_a_warning_not_the_run(project):
    done = project.run(*SAMPLE, "tracking=mlflow", "model=multinomial_nb", "features=word_tfidf",
                       "paths.mlruns_dir=/dev/null/mlruns")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.statuses() == ["finished"]
    assert "agnews sync" in done.stdout


def test_a_password_in_an_address_is_refused_and_written_nowhere(project, tmp_path):
    (tmp_path / "tracking").mkdir()
    yaml = "# Mine.\ndefaults: [mlflow, _self_]\nname: mine\nuri: http://me:s3cret@127.0.0.1:1\n"
    (tmp_path / "tracking" / "mine.yaml").write_text(yaml)
    address = "http://me:s3cret@127.0.0.1:1"
    own = f"--config-dir={tmp_path}"
    storage = "hydra.sweeper.storage='postgresql+psycopg://me:s3cret@h/db?sslpassword=s3cret'"
    for done, fix in (
        (project.run("data=sample", f"tracking.uri={address}"), "MLFLOW_TRACKING_PASSWORD"),
        (project.run("data=sample", env={"MLFLOW_TRACKING_URI": address}), "MLFLOW_TRACKING_PASSWORD"),
        (project.run("data=sample", "tracking=mine", own), "MLFLOW_TRACKING_PASSWORD"),
        (project.run("-m", "data=sample", "seed=1,2", "tracking=mine", own), "MLFLOW_TRACKING_PASSWORD"),
        (project.run("-m", "data=sample", "hydra/sweeper=optuna", "model.C=interval(0.1,1)", storage), ".pgpass"),
        (project.agnews("sync", f"tracking.uri={address}"), "MLFLOW_TRACKING_PASSWORD"),
        (project.run("modle=dummy", f"tags={{a: {address}}}"), "leave the password out"),
    ):
        assert done.returncode == 2, done.stdout + done.stderr
        assert "me:***@" in done.stderr
        assert fix in done.stderr
        assert "s3cret" not in done.stdout + done.stderr
    files = [path for path in project.root.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"s3cret" in path.read_bytes()]


def test_full_error_keeps_the_traceback_for_those_who_ask(project):
    done = project.run(*SAMPLE, "model.C=-1", env={"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 2
    assert "Traceback" in done.stderr

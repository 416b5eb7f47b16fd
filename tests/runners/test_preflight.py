"""What is known to fail is refused before anything is trained, by every run and by `agnews validate`."""

from __future__ import annotations

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import AgnewsError, ConfigError, StorageError
from agnews_exp.runners.preflight import check_ready, check_rows
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits, needs_network

ANIMALS = ("cat", "dog", "hen")


def checked(*words: str):
    return check_config(compose_config(["data=sample", *words]))


@pytest.fixture
def animals(tmp_path) -> str:
    """A small file of one's own, as an override."""
    path = tmp_path / "animals.csv"
    path.write_text("text,label\n" + "".join(f"{name} number {n},{name}\n" for n in range(20) for name in ANIMALS))
    return f"data.train_file={path}"


def test_what_needs_no_rows_is_refused_before_they_are_read(tmp_path):
    (tmp_path / "file").write_text("")
    for words, said, kind in (
        (("model=linear_svc", "evaluation.primary=val/log_loss"), "=linear_svc gives no probabilities", ConfigError),
        (("model=sgd_hinge", "evaluation.primary=val/log_loss"), "gives no probabilities", ConfigError),
        (("model=logreg", "evaluation.primary=val/foo"), "Unknown metric: 'foo'", ConfigError),
        (("model=distilbert", f"model.pretrained_path={tmp_path}/none"), "model.pretrained_path=", ConfigError),
        (
            ("model=distilled_network", "model@model.student=distilbert", "model.alpha=0",
             f"model.student.pretrained_path={tmp_path}"), "lacks config.json", ConfigError,
        ),
        ((f"paths.output_dir={tmp_path}/file/outputs",), "file/outputs: a part of the path is a file", StorageError),
        (("paths.output_dir=/proc/outputs",), "/proc/outputs", StorageError),
    ):  # fmt: skip
        with pytest.raises(kind, match=said):
            check_ready(checked(*words))
    for words in (
        ("model=logreg", "evaluation.primary=val/log_loss"),
        ("model=sgd_log", "evaluation.primary=val/log_loss"),
        ("model=stacking", "model/members=linear", "evaluation.primary=val/log_loss"),
        ("model=soft_voting", "model/members=linear", "evaluation.primary=val/log_loss"),
        (f"paths.output_dir={tmp_path}/not/yet/there",),
    ):
        check_ready(checked(*words))
    assert not (tmp_path / "not").exists()


def test_what_does_not_fit_the_rows_is_refused_when_they_are_read(animals):
    network = ("model=text_cnn", "trainer.batch_size=4")
    for words, said in (
        (("evaluation=cv", "evaluation.folds=20"), "only 14 training rows"),
        (("model=dummy", "evaluation.primary=val/f1/cow"), "f1/cow"),
        ((*network, "trainer.val_check_interval=12"), "an epoch has 11 batches"),
        ((*network, "trainer.val_check_interval=3", "trainer.limit_train_batches=2"), "an epoch has 2 batches"),
        ((*network, "trainer.limit_train_batches=0.01"), "of 11 batches that share is none"),
    ):
        asked = check_config(compose_config(["data=csv", animals, *words]))
        with pytest.raises(AgnewsError, match=said):
            check_rows(asked, load_splits(asked, Stages(quiet=True)))
    for words in (
        (*network, "trainer.val_check_interval=11"),
        (*network, "trainer.token_budget=100"),
        ("evaluation=cv",),
    ):
        asked = check_config(compose_config(["data=csv", animals, *words]))
        check_rows(asked, load_splits(asked, Stages(quiet=True)))


def test_validate_reads_the_data_and_downloads_nothing(project, animals):
    assert needs_network(checked("data=ag_news", "data.dir=null"))
    assert not needs_network(checked("data=ag_news", "data.dir=/tmp"))
    fine = project.agnews("validate", "data=csv", animals, "model=dummy")
    assert (fine.returncode, fine.stdout.splitlines()[0]) == (0, "valid: dummy-hybrid_tfidf on animals")
    wrong = project.agnews("validate", "data=csv", animals, "model=dummy", "data.label_column=lable")
    assert wrong.returncode == 2
    assert "data.label_column=label" in wrong.stderr
    unknown = project.agnews("validate", "data=csv", animals, "model=cascade", "model.fast=none", "model.accurate=none")
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr
    assert not (project.root / "outputs").exists()


def test_a_run_refuses_it_too(project, animals):
    done = project.run("data=csv", animals, "model=linear_svc", "evaluation.primary=val/log_loss", "tracking=none")
    assert done.returncode == 2
    assert done.stderr.startswith("error: evaluation.primary=val/log_loss")
    assert "loading" not in done.stdout
    (folder,) = project.run_folders
    assert not (folder / "model").exists()

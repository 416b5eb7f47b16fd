"""Students of finished runs: what they learn from, what they are known by, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.soft_targets import SoftTargets
from agnews_exp.models.loading import load_model
from agnews_exp.runners.distil_runner import out_of_fold_probabilities, teacher_probabilities
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits
from agnews_exp.tracking.runs import source_runs

COMMON = (
    "data=sample", "data_fraction=0.1", "tracking=none", "evaluation.latency_repeats=0", "trainer.n_jobs=1",
    "trainer=cpu",
)  # fmt: skip
STUDENT = ("model=distilled_linear", "features=word_tfidf", "model.teacher=teacher")


@pytest.fixture(scope="module")
def run(start_project):
    """Return ``run(*overrides) -> Outcome``, in a project that has a cross-validated run called teacher."""
    done, root = start_project(*COMMON)
    cv = ("evaluation=cv", "evaluation.folds=2", "evaluation.primary=val/macro_f1")
    done("model=multinomial_nb", "features=word_tfidf", "name=teacher", *cv)
    done.checked = lambda *words: check_config(compose_config([*COMMON, f"paths.root_dir={root}", *words]))
    return done


@pytest.fixture(scope="module")
def teacher(run):
    return source_runs(run.checked(*STUDENT).plain)["teacher"]


@pytest.fixture(scope="module")
def splits(run):
    return load_splits(run.checked(), Stages(quiet=True))


def test_student_comes_to_agree_with_its_teacher_and_stands_beside_it(run, teacher):
    alone = run(*STUDENT, "model.alpha=0").result["metrics"]
    taught = run(*STUDENT, "model.alpha=0.9").result["metrics"]
    more = run(*STUDENT, "model.alpha=0.9", "model.unlabelled=rest", "model.unlabelled_rows=1500").result
    agreement = [m["distil/val_agreement"] for m in (alone, taught, more["metrics"])]
    assert agreement == sorted(agreement)
    assert agreement[0] + 0.01 < agreement[2]
    assert taught["distil/teacher_test_macro_f1"] == teacher.metrics["test/macro_f1"]
    assert [m["distil/unlabelled_rows"] for m in (taught, more["metrics"])] == [0, 1500]
    assert more["data"]["rows"]["train"] == 340, "unlabelled rows are no training rows of the study"


def test_student_without_a_teacher_is_the_model_itself(run):
    student = run("model=distilled_linear", "features=word_tfidf", "model.alpha=0").result["metrics"]
    itself = run("model=ngram_softmax", "features=word_tfidf").result["metrics"]
    assert {k: student[k] for k in itself if "/" in k} == {k: v for k, v in itself.items() if "/" in k}


def test_student_is_known_by_its_teacher_and_by_what_a_file_holds(run, tmp_path):
    file = tmp_path / "more.txt"
    file.write_text("shares fall as banks warn\nstriker scores twice\n")
    words = (*STUDENT, f"model.unlabelled={file}")
    first = run(*words)
    assert not first.skipped
    assert run(*words, f"model.teacher={first.folder.parent / '0000'}").skipped, "the same teacher by another name"
    file.write_text("shares fall as banks warn\n")
    assert not run(*words).skipped


def test_answers_are_computed_once_whatever_is_added_to_the_teachers_folder(teacher, splits, tmp_path):
    texts, cache = splits.train.texts, tmp_path / "cache"
    expected = load_model(teacher.model).predict(texts).probabilities
    found = teacher_probabilities(teacher, texts, cache)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    entries = sorted(cache.glob("teacher/*"))
    older = replace(teacher, model=tmp_path / "model")
    shutil.copytree(teacher.model, older.model)
    manifest = json.loads((older.model / "manifest.json").read_text())
    del manifest["sha256"]["drift.json"]
    (older.model / "manifest.json").write_text(json.dumps(manifest))
    np.testing.assert_array_equal(teacher_probabilities(older, texts, cache), found)
    assert sorted(cache.glob("teacher/*")) == entries
    teacher_probabilities(replace(teacher, fingerprint="another"), texts, cache)
    assert len(list(cache.glob("teacher/*"))) == 2 * len(entries)


def test_out_of_fold_answers_are_less_sure_and_belong_to_their_rows(run, teacher, splits, tmp_path):
    inside = teacher_probabilities(teacher, splits.train.texts, tmp_path)
    outside = out_of_fold_probabilities(teacher, splits.train)
    right = [p[np.arange(len(p)), splits.train.labels].mean() for p in (inside, outside)]
    assert right[1] < right[0] - 0.02
    backwards = splits.train.take(np.arange(len(splits.train))[::-1].astype(np.int64))
    np.testing.assert_array_equal(out_of_fold_probabilities(teacher, backwards), outside[::-1])
    assert run(*STUDENT, "model.out_of_fold=true").result["metrics"]["distil/val_agreement"] > 0.5
    with pytest.raises(DataError, match="were not among teacher's"):
        run(*STUDENT, "model.out_of_fold=true", "data_fraction=0.2")


def test_classifier_that_knows_no_soft_targets_learns_from_weighted_copies(run, teacher, splits, tmp_path):
    wanted = teacher_probabilities(teacher, splits.train.texts, tmp_path)
    distance = []
    for alpha in (0, 1):
        words = ("model@model.student=logreg", "model.student.C=100", "model.temperature=1", f"model.alpha={alpha}")
        model = load_model(run(*STUDENT, *words).folder / "model")
        distance.append(float(np.abs(model.predict(splits.train.texts).probabilities - wanted).mean()))
    assert distance[1] < distance[0] / 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("split_seed=7",), "judged on other validation or test rows"),
        (("model.teacher=null",), "needs model.teacher"),
        (("evaluation=cv",), "cannot be cross-validated"),
        (("model@model.student=tiny",), "of the family transformer"),
        (("model.unlabelled=rest", "data_fraction=1"), "no training rows are left out"),
        (("model@model.student=knn",), "takes neither soft targets nor sample weights"),
        (("model@model.student=ngram_linear",), "loss=log_loss"),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_taught_is_refused(run, words, says):
    with pytest.raises(ConfigError, match=says):
        run(*STUDENT, *words)


def test_teacher_without_probabilities_is_refused(run):
    run("model=linear_svc", "features=word_tfidf", "name=mute")
    with pytest.raises(ConfigError, match="gives no probabilities"):
        run(*STUDENT, "model.teacher=mute")


@pytest.mark.slow
def test_network_learns_from_the_teacher_too(run):
    words = ("model=distilled_network", "model@model.student=tiny", "model.teacher=teacher", "trainer.max_epochs=4")
    small = ("model.student.vocabulary=1000", "model.student.max_length=32")
    taught = run(*words, *small, "model.unlabelled=rest", "model.unlabelled_rows=1200")
    alone = run(*words, *small, "model.alpha=0")
    agreement = [o.result["metrics"]["distil/val_agreement"] for o in (alone, taught)]
    assert agreement[0] < agreement[1]
    assert load_model(taught.folder / "model").family == "transformer"


def test_other_processes_of_a_training_get_the_soft_targets(make_training, tmp_path):
    job = make_training(tmp_path / "run").job
    n = len(job.train)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), n).astype(np.float32)
    soft = SoftTargets(probabilities, np.linspace(0, 1, n).astype(np.float32), 3.0)
    sent = pickle.dumps(replace(job, train=replace(job.train, soft=soft)))
    rows = np.array([5, 2])
    batch = pickle.loads(sent).train.batch(rows)
    np.testing.assert_array_equal(batch["soft"], probabilities[rows])
    np.testing.assert_array_equal(batch["share"], soft.share[rows])
    assert batch["temperature"] == 3.0

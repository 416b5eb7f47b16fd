"""Cross-validation judges every training row once, by a pipeline that never saw it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.evaluation.metrics import METRICS
from agnews_exp.runners import cross_validation
from agnews_exp.runners.cross_validation import cross_validate
from agnews_exp.runners.lightning_runner import LightningRunner
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.sklearn_runner import SklearnRunner

WORDS = (("goal", "match", "coach"), ("stock", "profit", "bank"))


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    texts = [" ".join(rng.choice(WORDS[y], 4)) + f" secret{i}" for i, y in enumerate(labels)]
    return TextRows(texts, labels.astype(np.int64), np.arange(n, dtype=np.int64) + 100)


def splits(n=60):
    return Splits(rows(n), rows(10, 1), rows(10, 2), ("sport", "money"), "test", "nowhere", "0")


def checked(*overrides):
    return check_config(
        compose_config(
            ["data=sample", "evaluation=cv", "features=word_tfidf", "features.blocks.word.min_df=1",
             "features.blocks.word.max_df=1.0", "model=linear_svc", *overrides]
        )
    )  # fmt: skip


def test_every_row_is_held_out_once_and_metrics_follow_from_the_answers():
    data = splits()
    found = cross_validate(checked("evaluation.folds=5"), data, Stages(quiet=True))
    assert sorted(np.bincount(found.folds)) == [12] * 5
    assert len(found.predictions) == len(data.train)
    for fold in range(5):
        at = found.folds == fold
        expected = f1_score(data.train.labels[at], found.predictions.labels[at], average="macro")
        assert found.metrics["macro_f1"][fold] == pytest.approx(expected)
    whole = {name for name, entry in METRICS.items() if entry.of == "counts"}
    assert whole | {"f1/" + name for name in data.class_names} <= set(found.metrics)
    summary = found.summary()
    assert summary["cv/macro_f1"] == pytest.approx(np.mean(found.metrics["macro_f1"]))
    assert "cv/f1/sport_std" not in summary
    uneven = replace(found, metrics={"macro_f1": [0.5, 0.7, 0.9]}).summary()
    assert (uneven["cv/macro_f1"], uneven["cv/macro_f1_std"]) == (pytest.approx(0.7), pytest.approx(0.2))
    assert found.predictions.scores.shape == (60, 2)


def test_no_token_of_a_held_out_row_is_in_the_vocabulary_or_idf_of_its_training_folds(monkeypatch):
    fitted = []

    class Watched(SklearnRunner):
        """The real runner; remembers itself."""

        def fit(self, splits, stages):
            summary = super().fit(splits, stages)
            fitted.append((self, set(splits.train.texts)))
            return summary

    monkeypatch.setattr(cross_validation, "make_runner", Watched)
    data = splits()
    cross_validate(checked("evaluation.folds=3"), data, Stages(quiet=True))
    assert len(fitted) == 3
    for runner, seen in fitted:
        vectoriser = runner.pipeline.named_steps["features"].named_steps["blocks"]
        names = set(vectoriser.get_feature_names_out())
        secrets_inside = {text.split()[-1] for text in seen}
        assert {name for name in names if name.startswith("secret") and " " not in name} == secrets_inside
        assert len(secrets_inside) == 40
        # document frequencies, and so idf, count training rows only
        idf = dict(zip(vectoriser.get_feature_names_out(), vectoriser.idf_, strict=True))
        df = sum("goal" in text.split() for text in seen)
        assert idf["goal"] == pytest.approx(np.log((1 + 40) / (1 + df)) + 1)


def test_folds_are_the_same_for_every_model_and_follow_split_seed():
    data = splits()
    one = cross_validate(checked("evaluation.folds=4"), data, Stages(quiet=True)).folds
    bayes = checked("evaluation.folds=4", "model=multinomial_nb", "seed=9")
    other_model = cross_validate(bayes, data, Stages(quiet=True))
    other_split = cross_validate(checked("evaluation.folds=4", "split_seed=9"), data, Stages(quiet=True))
    np.testing.assert_array_equal(one, other_model.folds)
    assert not np.array_equal(one, other_split.folds)


def test_more_folds_than_rows_of_a_class_is_explained():
    with pytest.raises(DataError, match=r"evaluation\.folds=10.*only 4"):
        cross_validate(checked("evaluation.folds=10"), splits(8), Stages(quiet=True))


@pytest.mark.parametrize("overrides", [("evaluation.folds=1",), ("evaluation.folds=0",)])
def test_senseless_fold_counts_are_refused(overrides):
    with pytest.raises(ConfigError, match="folds"):
        checked(*overrides)


def test_a_network_in_a_fold_in_time_chooses_by_rows_that_are_older_than_those_held_out(monkeypatch):
    seen = []

    class Watched(LightningRunner):
        """The real runner; remembers its rows."""

        def fit(self, splits, stages):
            seen.append(splits)
            return super().fit(splits, stages)

    monkeypatch.setattr(cross_validation, "make_runner", Watched)
    data = splits(120)
    dated = replace(data.train, keys=[f"{i // 4:03}" for i in range(120)])
    words = [
        "model=text_cnn", "model.vocabulary=300", "model.embedding_dim=8", "model.n_filters=8", "trainer=cpu",
        "trainer.n_jobs=1", "trainer.max_epochs=1", "evaluation=cv", "evaluation.folds=3", "data=sample",
    ]  # fmt: skip
    settings = check_config(compose_config(words))
    found = cross_validate(settings, replace(data, train=dated, split="time"), Stages(quiet=True))
    for fold, part in enumerate(seen):
        held_out = [key for key, at in zip(found.rows.keys, found.folds == fold, strict=True) if at]
        assert max(part.train.keys) < min(part.validation.keys) <= max(part.validation.keys) < min(held_out)
    assert len(seen) == 3

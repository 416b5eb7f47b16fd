"""Divisions within a model's own fit never cut a group apart or look ahead, however deep they lie."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import SVC

from agnews_exp.core.errors import ConfigError
from agnews_exp.features.selection import TopScoring
from agnews_exp.models.ensembles import WeightedVoting, soft_voting, stacking, with_selection
from agnews_exp.models.inner_folds import check_divisions, follow, with_keys

N = 240
LABELS = np.arange(N) % 3
KEYS = [f"{i // 8:03}" for i in range(N)]  # the rows stand in the order of time


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers the rows of every prediction and those it was fitted on; a row's number is its first column."""

    asked: ClassVar[list] = []

    def fit(self, X, y):
        self.classes_, self.rows_ = np.unique(y), X[:, [0]]
        return self

    def predict_proba(self, X):
        numbers = [(m.toarray() if sparse.issparse(m) else np.asarray(m)).ravel().astype(int) for m in
                   (self.rows_, X[:, [0]])]  # fmt: skip
        Spy.asked.append(numbers)
        return np.full((X.shape[0], len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def calibrated(**more):
    return CalibratedClassifierCV(Spy(), cv=3, **more)


MODELS = {
    "calibration": calibrated,
    "one calibration": lambda: calibrated(ensemble=False),
    "voting": lambda: soft_voting({"one": calibrated(), "two": Spy()}),
    "weighted voting": lambda: WeightedVoting({"one": calibrated(), "two": Spy()}),
    "stacking": lambda: stacking(
        {"one": calibrated(), "two": with_selection(TopScoring("chi2", 2), calibrated())}, LogisticRegression()
    ),
}
OUT_OF_FOLD = ("one calibration", "stacking")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["group", "time"])
def test_no_row_is_answered_by_a_model_of_its_group_or_of_its_future(split):
    numbers = np.column_stack([np.arange(N), LABELS, np.ones(N)]).astype(float)
    for kind in (sparse.csr_matrix, sparse.csr_array, np.asarray):
        for name, make in MODELS.items():
            if (kind is np.asarray and name == "stacking") or (split == "time" and name in OUT_OF_FOLD):
                continue
            model = make()
            check_divisions(model, split)
            assert follow(model, split)
            Spy.asked.clear()
            model.fit(with_keys(kind(numbers), KEYS), LABELS)
            assert len(Spy.asked) >= 3, name
            for seen, asked in Spy.asked:
                groups, others = {KEYS[i] for i in seen}, {KEYS[i] for i in asked}
                assert not groups & others, name
                assert split == "group" or max(groups) < min(others), name


def test_what_cannot_follow_is_refused_with_the_keys_that_mend_it():
    sgd = SGDClassifier(loss="log_loss", early_stopping=True)
    for model, split, fix in (
        (sgd, "group", "model.early_stopping=false"),
        (stacking({"sgd": sgd, "svc": calibrated()}, LogisticRegression()), "group",
         "model.members.sgd.early_stopping=false"),
        (WeightedVoting({"sgd": sgd, "two": Spy()}), "time", "model.members.sgd.early_stopping=false"),
        (HistGradientBoostingClassifier(), "group", "model.early_stopping=false"),
        (GradientBoostingClassifier(n_iter_no_change=3), "time", "model.n_iter_no_change=null"),
        (SVC(probability=True), "group", "model.probability=false"),
        (CalibratedClassifierCV(Spy(), cv=KFold(3)), "group", "model.cv=5"),
        (MODELS["one calibration"](), "time", "model.ensemble=true"),
        (MODELS["stacking"](), "time", "model=weighted_voting"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"split={split}") as caught:
            check_divisions(model, split)
        assert caught.value.fix == fix
    blind = stacking({"one": make_pipeline(MaxAbsScaler(), calibrated()), "two": Spy()}, LogisticRegression())
    assert follow(blind, "group")
    with pytest.raises(ConfigError, match="groups or moments are not known"):
        blind.fit(with_keys(sparse.csr_matrix(np.column_stack([np.arange(N), LABELS])), KEYS), LABELS)

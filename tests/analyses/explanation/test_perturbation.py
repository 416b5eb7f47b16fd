import numpy as np
import pytest

from agnews_exp.analyses.explanation import perturbation
from agnews_exp.core.errors import MissingDependencyError

WORTH = {"good": 0.4, "bad": -0.2}
TEXT = "so good, so bad; so so"


def answer(texts):
    p = np.array([0.3 + sum(WORTH.get(word.strip(",;"), 0.0) for word in text.split()) for text in texts])
    return np.column_stack([1 - p, p])


@pytest.mark.parametrize("name", ["lime", "shap"])
def test_missing_package_is_named_with_its_extra(name, hide):
    hide(name)
    with pytest.raises(MissingDependencyError, match=name) as caught:
        getattr(perturbation, name)(answer, [TEXT], np.array([1]))
    assert "agnews-exp[explain]" in str(caught.value)


@pytest.mark.parametrize("name", ["lime", "shap"])
def test_words_that_decide_get_their_worth(name):
    pytest.importorskip(name)
    texts, targets = [TEXT, "", "bad"], np.array([1, 1, 0])
    explained, empty, single = getattr(perturbation, name)(answer, texts, targets, samples=200, seed=0)
    found = dict(zip(explained.words, explained.weights, strict=True))
    # LIME's linear model is a ridge regression, so its weights are a little too small.
    assert found["good"] == pytest.approx(0.4, abs=0.04)
    assert found["bad"] == pytest.approx(-0.2, abs=0.04)
    assert all(abs(weight) < 0.02 for word, weight in found.items() if word not in WORTH)
    assert len(empty.weights) == 0
    assert single.weights[0] > 0


def test_shap_adds_up_to_the_probability():
    pytest.importorskip("shap")
    (explained,) = perturbation.shap(answer, [TEXT], np.array([1]), samples=50)
    assert explained.base == pytest.approx(0.3)
    assert explained.total == pytest.approx(0.5)

import re

import numpy as np
import pytest

from agnews_exp.analyses.explanation import methods
from agnews_exp.analyses.explanation.faithfulness import (
    erase,
    interval_of_mean,
    mean_erasure,
    random_order,
    score,
)
from agnews_exp.analyses.explanation.methods import occlusion
from agnews_exp.analyses.explanation.words import Explanation
from agnews_exp.core.errors import MissingDependencyError

WORTH = {"good": 0.4, "fine": 0.2, "bad": -0.1}


def answer(texts):
    """A model whose probability of class 1 is .3 plus the worth of the words in the text."""
    p = np.array([0.3 + sum(WORTH.get(word, 0.0) for word in re.findall(r"\w+", text)) for text in texts])
    return np.column_stack([1 - p, p])


TEXT = "good fine bad so so so so so so so"
TARGETS = np.array([1])
SAID = "so good, so bad; so so"


def test_occlusion_finds_what_each_word_is_worth():
    (explanation,) = occlusion(answer, [TEXT], TARGETS)
    np.testing.assert_allclose(explanation.weights, [0.4, 0.2, -0.1, *[0] * 7], atol=1e-12)
    (against,) = occlusion(answer, [TEXT], np.array([0]))
    np.testing.assert_allclose(against.weights, -explanation.weights, atol=1e-12)


def test_occlusion_keeps_texts_of_different_length_apart():
    texts = ["good", "", "so bad fine"]
    found = occlusion(answer, texts, np.array([1, 1, 1]))
    assert [len(e.weights) for e in found] == [1, 0, 3]
    np.testing.assert_allclose(found[2].weights, [0, -0.1, 0.2], atol=1e-12)


def test_comprehensiveness_and_sufficiency_by_hand():
    erasure = erase(answer, occlusion(answer, [TEXT], TARGETS))
    # 1, 2 and 5 of 10 words: without them .3 + .1, .3 - .1, .3 - .1 of .8; only with them .7, .9, .9.
    np.testing.assert_allclose(erasure.comprehensiveness, [[0.4, 0.6, 0.6]], atol=1e-12)
    np.testing.assert_allclose(erasure.sufficiency, [[0.1, -0.1, -0.1]], atol=1e-12)


def test_share_of_a_short_text_is_at_least_one_word():
    erasure = erase(answer, [Explanation("m", "good", 1, np.array([1.0]))])
    np.testing.assert_allclose(erasure.comprehensiveness, [[0.4, 0.4, 0.4]], atol=1e-12)
    np.testing.assert_allclose(erasure.sufficiency, [[0.0, 0.0, 0.0]], atol=1e-12)


def test_true_explanation_beats_random_order_and_reversed_one_does_not():
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.permutation(TEXT.split())) for _ in range(30)]
    targets = np.ones(30, dtype=np.int64)
    true = occlusion(answer, texts, targets)
    wrong = [Explanation("wrong", e.text, 1, -e.weights) for e in true]
    baseline = mean_erasure([erase(answer, random_order(texts, targets, seed)) for seed in range(5)])
    good, bad = (score("m", erase(answer, one), baseline) for one in (true, wrong))
    assert good.comprehensiveness_gain.low > 0
    assert good.sufficiency_gain.low > 0
    assert bad.comprehensiveness_gain.high < 0
    assert bad.sufficiency_gain.high < 0
    own = score("random", baseline, baseline)
    assert own.comprehensiveness_gain.estimate == 0


def test_random_orders_depend_on_the_seed_alone():
    one, same, other = (random_order([TEXT], TARGETS, seed)[0].weights for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_interval_of_mean_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).exponential(size=60)
    found = interval_of_mean(values)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=4).confidence_interval
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.015)
    assert found.high == pytest.approx(expected.high, abs=0.015)


@pytest.mark.parametrize("name", ["lime", "shap"])
def test_missing_package_is_named_with_its_extra(name, hide):
    hide(name)
    with pytest.raises(MissingDependencyError, match=name) as caught:
        getattr(methods, name)(answer, [SAID], np.array([1]))
    assert "agnews-exp[explain]" in str(caught.value)


@pytest.mark.slow  # the packages take seconds to import
@pytest.mark.parametrize("name", ["lime", "shap"])
def test_words_that_decide_get_their_worth(name):
    pytest.importorskip(name)
    texts, targets = [SAID, "", "bad"], np.array([1, 1, 0])
    explained, empty, single = getattr(methods, name)(answer, texts, targets, samples=200, seed=0)
    found = dict(zip(explained.words, explained.weights, strict=True))
    # LIME's linear model is a ridge regression, so its weights are a little too small.
    assert found["good"] == pytest.approx(0.4, abs=0.04)
    assert found["bad"] == pytest.approx(-0.1, abs=0.04)
    assert all(abs(weight) < 0.02 for word, weight in found.items() if word not in WORTH)
    assert len(empty.weights) == 0
    assert single.weights[0] > 0


@pytest.mark.slow
def test_shap_adds_up_to_the_probability():
    pytest.importorskip("shap")
    (explained,) = methods.shap(answer, [SAID], np.array([1]), samples=50)
    assert explained.base == pytest.approx(0.3)
    assert explained.base + explained.weights.sum() == pytest.approx(0.6)

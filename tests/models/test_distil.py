"""Soft targets: both students minimise the same loss, and a student can learn from a teacher's answers alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.special import log_softmax, softmax

from agnews_exp.core.errors import ConfigError
from agnews_exp.data.soft_targets import SoftTargets, tempered, weighted_copies
from agnews_exp.models.ngram_linear import NgramLinear
from agnews_exp.models.recipes import Distillation

N, K = 300, 3


def problem(seed=0):
    rng = np.random.default_rng(seed)
    rows = sparse.random(N, 40, density=0.2, random_state=seed, format="csr", dtype=np.float64)
    logits = rows @ rng.normal(size=(40, K)) * 4
    return rows, logits, rng.integers(0, K, N)


def objective(scores, labels, soft):
    """The loss as it is written down, mean over rows."""
    t = soft.temperature
    taught = (soft.probabilities * (np.log(soft.probabilities) - log_softmax(scores / t, axis=1))).sum(1) * t**2
    labelled = -log_softmax(scores, axis=1)[np.arange(len(labels)), labels]
    return soft.share * taught + (1 - soft.share) * labelled


def test_tempered_probabilities_are_the_softmax_of_divided_logits():
    logits = problem()[1]
    for temperature in (0.5, 1.0, 4.0):
        expected = softmax(logits / temperature, axis=1)
        np.testing.assert_allclose(tempered(softmax(logits, axis=1), temperature), expected, atol=1e-5)
    certain = tempered([[1.0, 0.0, 0.0]], 2.0)
    assert np.isfinite(certain).all()
    assert certain.sum() == pytest.approx(1)


@pytest.mark.parametrize(("share", "temperature"), [(0.0, 2.0), (0.4, 3.0), (1.0, 1.5)])
def test_linear_student_reaches_the_minimum_of_the_loss(share, temperature):
    from scipy.optimize import minimize

    rows, logits, labels = problem()
    soft = SoftTargets(tempered(softmax(logits, axis=1), temperature), np.full(N, share, dtype=np.float32), temperature)
    model = NgramLinear(loss="log_loss", epochs=400, learning_rate=0.5, alpha=0.0, random_state=0)
    found = objective(model.fit(rows, labels, soft=soft).decision_function(rows), labels, soft).mean()
    dense = np.hstack([rows.toarray(), np.ones((N, 1))])
    best = minimize(
        lambda w: objective(dense @ w.reshape(-1, K), labels, soft).mean(), np.zeros(41 * K), method="L-BFGS-B",
        options={"maxfun": 100_000},
    )  # fmt: skip
    assert best.fun - 1e-6 <= found <= best.fun + 0.02
    untaught = objective(model.fit(rows, labels).decision_function(rows), labels, soft).mean()
    assert (found < untaught - 0.05) == (share > 0)


def test_soft_targets_without_weight_change_nothing():
    rows, logits, labels = problem()
    ignored = SoftTargets(tempered(softmax(logits, axis=1), 2.0), np.zeros(N, dtype=np.float32), 2.0)
    model = NgramLinear(loss="log_loss", random_state=0)
    plain = model.fit(rows, labels).coef_.copy()
    np.testing.assert_array_equal(model.fit(rows, labels, soft=ignored).coef_, plain)


def test_network_loss_is_the_same_function_with_the_same_gradient():
    import torch

    from agnews_exp.models.optimization import distillation_loss

    _, logits, labels = problem()
    rng = np.random.default_rng(1)
    share = rng.random(N).astype(np.float32)
    soft = SoftTargets(tempered(softmax(logits, axis=1), 2.5), share, 2.5)
    scores = torch.tensor(rng.normal(size=(N, K)), requires_grad=True)
    arguments = torch.tensor(soft.probabilities, dtype=torch.float64), torch.tensor(share, dtype=torch.float64)
    loss = distillation_loss(scores, torch.tensor(labels), *arguments, 2.5)
    expected = objective(scores.detach().numpy(), labels, soft)
    assert loss.item() == pytest.approx(expected.sum(), rel=1e-5)
    loss.backward()
    z = scores.detach().numpy()
    hard = softmax(z, axis=1) - np.eye(K)[labels]
    taught = 2.5 * (softmax(z / 2.5, axis=1) - soft.probabilities)
    gradient = (1 - share)[:, None] * hard + share[:, None] * taught
    np.testing.assert_allclose(scores.grad.numpy(), gradient, atol=1e-5)


def test_weighted_copies_stand_for_the_soft_targets_of_every_row():
    labels = np.array([0, 1])
    soft = SoftTargets(np.array([[0.7, 0.3, 0.0], [0.2, 0.2, 0.6]], np.float32), np.array([0.5, 1.0], np.float32), 1.0)
    rows, classes, weights = weighted_copies(labels, soft)
    targets = np.zeros((2, 3))
    np.add.at(targets, (rows, classes), weights)
    np.testing.assert_allclose(targets, [[0.85, 0.15, 0.0], [0.2, 0.2, 0.6]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0, "unlabelled": "rest"}, "model.unlabelled=rest has no effect"),
        ({"alpha": 0, "out_of_fold": True}, "model.out_of_fold=True has no effect"),
        ({"unlabelled_rows": 5}, "model.unlabelled_rows=5 has no effect"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_options_without_effect_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Distillation(student=NgramLinear(), **options)


def test_soft_targets_need_the_softmax():
    rows, logits, labels = problem()
    soft = SoftTargets(tempered(softmax(logits, axis=1), 1.0), np.ones(N, dtype=np.float32), 1.0)
    with pytest.raises(ValueError, match="loss=log_loss"):
        NgramLinear(loss="squared_hinge").fit(rows, labels, soft=soft)

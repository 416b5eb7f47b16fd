"""Routing: every threshold against a direct simulation of the router."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agnews_exp.evaluation.routing import (
    choose_threshold,
    oracle_curve,
    pareto_front,
    random_accuracy,
    risk_coverage,
    routing_curve,
)


def simulated(confidence, fast, accurate, threshold):
    asked = confidence < threshold
    return asked.mean(), np.where(asked, accurate, fast).mean()


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(
    arrays(np.float64, n, elements=st.sampled_from([0.3, 0.5, 0.5000001, 0.9, 1.0])),
    arrays(np.bool_, n), arrays(np.bool_, n),
)))  # fmt: skip
def test_every_point_of_the_curve_is_what_a_router_with_that_threshold_does(case):
    curve = routing_curve(*case)
    for threshold, rate, accuracy in zip(curve.thresholds, curve.escalation_rate, curve.accuracy, strict=True):
        assert (rate, accuracy) == pytest.approx(simulated(*case, threshold))
    assert curve.escalation_rate[0] == 0
    assert curve.escalation_rate[-1] == 1
    for threshold in (0.0, 0.4, 0.5, 0.95, 1.0, 2.0):
        assert curve.accuracy[curve.at(threshold)] == pytest.approx(simulated(*case, threshold)[1])


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    fast = rng.random(500) < 0.5 + confidence / 2
    return confidence, fast, rng.random(500) < 0.93


def test_no_router_beats_the_oracle_and_the_random_one_meets_both_ends(case):
    _, fast, accurate = case
    curve = routing_curve(*case)
    rates, best = oracle_curve(fast, accurate)
    assert np.all(curve.accuracy <= np.interp(curve.escalation_rate, rates, best) + 1e-12)
    assert random_accuracy([0, 1], fast, accurate) == pytest.approx([fast.mean(), accurate.mean()])


def test_an_accuracy_floor_takes_the_fewest_escalations(case):
    curve = routing_curve(*case)
    floor = float(np.quantile(curve.accuracy, 0.6))
    choice = choose_threshold(curve, "accuracy_floor", floor)
    rate, accuracy = simulated(*case, choice.threshold)
    assert choice.reached
    assert (accuracy, rate) == pytest.approx((choice.accuracy, choice.escalation_rate))
    assert accuracy >= floor
    cheaper = curve.escalation_rate < rate
    assert np.all(curve.accuracy[cheaper] < floor)


def test_an_escalation_rate_and_a_cost_ceiling_are_kept_with_the_best_accuracy_below(case):
    curve = routing_curve(*case)
    by_rate = choose_threshold(curve, "escalation_rate", 0.2)
    by_cost = choose_threshold(curve, "cost_ceiling", 1 + 0.2 * 50, fast_cost=1, accurate_cost=50)
    assert by_rate == by_cost
    assert by_rate.escalation_rate <= 0.2
    assert by_rate.accuracy == max(curve.accuracy[curve.escalation_rate <= 0.2])


def test_targets_out_of_reach_say_so(case):
    curve = routing_curve(*case)
    floor = choose_threshold(curve, "accuracy_floor", 1.01)
    ceiling = choose_threshold(curve, "cost_ceiling", 0.5, fast_cost=1, accurate_cost=50)
    assert not floor.reached
    assert floor.accuracy == curve.accuracy.max()
    assert not ceiling.reached
    assert ceiling.escalation_rate == 0


def test_a_fixed_confidence_is_taken_as_it_is(case):
    choice = choose_threshold(routing_curve(*case), "confidence", 0.9)
    assert choice.threshold == 0.9
    assert (choice.escalation_rate, choice.accuracy) == pytest.approx(simulated(*case, 0.9))


def test_the_pareto_front_holds_what_nothing_beats():
    cost, accuracy = [1, 2, 2, 3, 4], [0.5, 0.7, 0.8, 0.8, 0.9]
    assert pareto_front(cost, accuracy).tolist() == [0, 2, 4]


def test_risk_at_full_coverage_is_the_error_rate_and_ties_are_answered_together():
    coverage, risk, area = risk_coverage([0.9, 0.9, 0.5, 0.1], [True, False, True, False])
    assert coverage.tolist() == [0.5, 0.75, 1.0]
    assert risk == pytest.approx([0.5, 1 / 3, 0.5])
    assert area == pytest.approx((0.5 * 2 + 1 / 3 + 0.5) / 4)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="shape"):
        routing_curve([0.1], [True, False], [True])


def test_a_ceiling_counts_the_accurate_model_as_one_where_no_cost_is_given():
    confidence = np.linspace(0, 1, 11)
    curve = routing_curve(confidence, confidence > 0.3, np.ones(11))
    assert choose_threshold(curve, "cost_ceiling", 0.2).escalation_rate == pytest.approx(2 / 11)

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from agnews_exp.analyses.efficiency import analyse, measure_cold_start
from agnews_exp.analyses.findings import to_markdown
from agnews_exp.analyses.performing import AnalysisContext
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import AgnewsError, ConfigError
from agnews_exp.evaluation.efficiency import folder_size_mb
from agnews_exp.models.loading import ClassicalModel
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits
from agnews_exp.runners.sklearn_runner import SklearnRunner

QUICK = {"batch_sizes": (1, 16), "seconds": 0.05, "min_calls": 5, "energy_seconds": 0}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    checked = check_config(
        compose_config(["data=sample", "data_fraction=0.1", "features=word_tfidf", "model=multinomial_nb"])
    )
    splits = load_splits(checked, Stages(quiet=True))
    runner = SklearnRunner(checked)
    runner.fit(splits, Stages(quiet=True))
    runner.save(run / "model")
    folder = run / "analysis" / "efficiency"
    folder.mkdir(parents=True)
    timings = {"load": 9.0, "features": 1.5, "fit": 0.5, "save": 7.0}
    return AnalysisContext(checked, splits, {}, ClassicalModel(runner.pipeline, splits.class_names), folder, timings)


@pytest.fixture(scope="module")
def findings(context):
    return analyse(context, cold_starts=1, prices={"here": 0.36}, utilisation=0.5, **QUICK)


@pytest.mark.slow
def test_everything_asked_for_is_measured(context, findings):
    metrics = findings.metrics
    for size in (1, 16):
        assert 0 < metrics[f"latency_p50_ms_{size}"] <= metrics[f"latency_p95_ms_{size}"]
        assert metrics[f"throughput_{size}"] > 0
    assert metrics["throughput_16"] > metrics["throughput_1"]
    assert findings.details["model_size_mb"] == folder_size_mb(context.folder.parents[1] / "model")
    latency, throughput = findings.blocks[2:]
    assert latency.series[0].y == tuple(metrics[f"latency_p50_ms_{size}"] for size in (1, 16))
    assert throughput.series[0].x == (1, 16)
    json.dumps(findings.details, allow_nan=False)


@pytest.mark.slow
def test_cold_start_is_a_process_of_its_own(findings):
    (start,) = findings.details["cold_starts"]
    parts = start["import_s"] + start["load_s"] + start["first_answer_s"]
    assert 0 < parts < start["seconds"] == findings.metrics["cold_start_s"]
    assert 50 < start["peak_rss_one_mb"] <= start["peak_rss_batch_mb"]
    assert start["peak_gpu_mb"] is None


def test_cost_is_that_of_the_measured_throughput(findings):
    cost = findings.details["cost"]
    assert cost["throughput"] == max(findings.metrics[f"throughput_{size}"] for size in (1, 16))
    assert findings.metrics["cost_per_million"] == pytest.approx(0.36 * 1e6 / (cost["throughput"] * 3600 * 0.5))
    how = str(findings.blocks[1].rows[-1])
    assert cost["formula"] in how
    assert f"{cost['throughput']:,.1f} x 3,600 x 0.5" in how


def test_cost_is_in_the_currency_of_the_price(context, tmp_path):
    found = analyse(replace(context, folder=tmp_path), cold_starts=0, prices={"here": 1.0}, currency="CHF", **QUICK)
    assert found.details["cost"]["currency"] == "CHF"
    assert re.search(r"cost per million texts \| [\d.e-]+ CHF", to_markdown(found.blocks))


def test_training_time_is_that_of_the_stages_of_training(findings):
    assert findings.details["training"]["seconds"] == 2.0
    assert "features 1.5 s, fit 0.5 s" in to_markdown(findings.blocks)


def test_without_price_record_or_meter_the_reason_is_told(context, tmp_path):
    folder = tmp_path / "analysis" / "efficiency"
    folder.mkdir(parents=True)
    found = analyse(replace(context, folder=folder, timings={}), cold_starts=0, prices={"here": None}, **QUICK)
    assert not {"cost_per_million", "kwh_per_million", "cold_start_s"} & set(found.metrics)
    summary = to_markdown(found.blocks)
    assert "set prices.here=" in summary
    assert "energy_seconds=0" in found.details["energy_reason"]
    assert "nothing was trained" in summary


def test_energy_has_a_number_or_a_reason(context):
    found = analyse(context, cold_starts=0, **QUICK | {"energy_seconds": 0.2})
    try:
        import codecarbon  # noqa: F401
    except ImportError:
        assert found.details["energy"] is None
        assert "agnews-exp[energy]" in found.details["energy_reason"]
    else:
        assert found.metrics["kwh_per_million"] > 0


def test_unknown_machine_is_refused(context):
    with pytest.raises(ConfigError, match="Did you mean 'laptop'"):
        analyse(context, machine="labtop", prices={"laptop": 0.1}, **QUICK)


def test_model_that_cannot_be_loaded_is_told_with_the_reason(tmp_path):
    with pytest.raises(AgnewsError, match="not a complete model folder"):
        measure_cold_start(tmp_path / "nothing", "a text", [])


def test_batches_go_round_the_texts(context):
    one = context.splits.validation.take(np.array([0]))
    short = replace(context, splits=replace(context.splits, validation=one))
    assert analyse(short, cold_starts=0, **QUICK).metrics["throughput_16"] > 0

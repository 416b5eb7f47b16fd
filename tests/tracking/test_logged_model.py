"""Models of every family in MLflow: pyfunc answers as `agnews predict` does, with all of the model folder behind it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.experiment import execute
from agnews_exp.serving.models import find_model

TEXTS = [
    "Oil prices rise on supply fears",
    "Striker scores twice in the cup final",
    "",
    "  zzz  ",
    "New chip doubles speed",
]
SMALL = (
    "data=sample", "data_fraction=0.05", "evaluation.latency_repeats=0", "trainer=cpu", "trainer.n_jobs=1",
    "tracking.system_metrics=false",
)  # fmt: skip
PAIR = ("model.fast=nb", "model.accurate=small")
FAMILIES = {
    "nb": ("model=multinomial_nb", "features=word_tfidf", "name=nb"),
    "small": ("model=tiny", "name=small", "trainer.max_epochs=1", "model.vocabulary=500"),
    "cascade": ("model=cascade", *PAIR, "model.target=escalation_rate", "model.value=0.5", "name=cascade"),
    "blend": ("model=blend", *PAIR, "name=blend"),
    "distilled": ("model=distilled_linear", "features=word_tfidf", "model.teacher=nb", "name=distilled"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one run of each family in its MLflow store; returns its plain configuration."""
    root = tmp_path_factory.mktemp("project")
    for number, words in enumerate(FAMILIES.values()):
        folder = root / "outputs" / "runs" / f"{number:04}"
        folder.mkdir(parents=True)
        execute(compose_config([*SMALL, f"paths.root_dir={root}", *words]), folder)
    from agnews_exp.config.validation import to_plain

    return to_plain(compose_config([f"paths.root_dir={root}"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_pyfunc_answers_as_the_run_does_and_is_complete(project, name):
    import mlflow.pyfunc  # which warns of its own type hints when it is first imported

    from agnews_exp.serving.registry import register_run

    expected = find_model(project, name).load().predict(TEXTS)
    version = register_run(project, name, name, alias="champion")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of ours: MLflow's advice about type hints is one
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/{version}")
    for given in (np.array(TEXTS, dtype=object), pd.DataFrame({"text": TEXTS})):
        np.testing.assert_array_equal(loaded.predict(given), expected.labels)
    assert loaded.metadata.signature.inputs.is_tensor_spec()
    assert len(loaded.predict(loaded.input_example)) == len(loaded.input_example)

    registered = find_model(project, f"models:/{name}@champion")
    np.testing.assert_array_equal(registered.load().predict(TEXTS).probabilities, expected.probabilities)
    reference = json.loads((registered.folder / "drift.json").read_text())
    assert sum(reference["classes"]) == 600, "the drift reference of the validation rows comes along"

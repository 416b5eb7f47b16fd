"""A finished run's network answers again as the run has judged it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agnews_exp.tracking.record import RunFolder
from tests.runners.conftest import SMALL


@pytest.mark.parametrize("precision", ["bf16", pytest.param("32", marks=pytest.mark.slow)])
def test_analyses_ask_the_network_as_the_run_did(start_project, precision):
    from agnews_exp.analyses.performing import FinishedRun

    run, root = start_project(*SMALL, f"trainer.precision={precision}", "trainer.evaluation_batch_size=5")
    run()
    (folder,) = (root / "outputs" / "runs").iterdir()
    finished = FinishedRun(RunFolder(folder))
    scores = finished.model.predict(finished.splits.test.texts).scores
    stored = finished.context("any").answers["test"].scores
    np.testing.assert_allclose(scores, stored, atol=1e-4)
    for answers in (scores, stored):
        rounded = torch.tensor(answers).bfloat16().to(torch.tensor(answers).dtype).numpy()
        assert np.array_equal(rounded, answers) == (precision == "bf16")
    assert finished.model.batch_size == 5

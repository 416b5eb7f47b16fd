"""A smaller run of scripts/check_statistics.py: coverage of intervals and rejection rates under the null."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "check_statistics.py"


def load_script():
    spec = importlib.util.spec_from_file_location("check_statistics", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_statistics"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CHECKS = load_script().CHECKS
SCALES = {"check_folds": 0.05}
"""Of checks that cross-validate real learners, which takes long."""


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_rates_are_within_three_standard_errors_of_what_they_should_be(check):
    rows = list(check(SCALES.get(check.__name__, 0.1)))
    assert any(row.allowed is not None for row in rows)
    assert [f"{row.what}: {row.rate:.4f}" for row in rows if not row.kept(slack=3.0)] == []

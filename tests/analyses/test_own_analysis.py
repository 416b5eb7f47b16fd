"""The recipe "Adding an analysis" of CONTRIBUTING.md: one function and one YAML file, for runs and finished runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agnews_exp.analyses.performing import stored_findings

RECIPE = (
    (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding an analysis")[2]
)


@pytest.fixture
def own(tmp_path):
    """The recipe's files in a folder of their own; returns it and the environment that trusts them."""
    for kind, name in (("python", "my_analyses.py"), ("yaml", "mine/evaluation/analyses/lengths.yaml")):
        (content,) = re.findall(rf"```{kind}\n# {re.escape(name)}\n(.*?)```", RECIPE, re.DOTALL)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path / "mine", {"AGNEWS_COMPONENTS": "my_analyses", "PYTHONPATH": str(tmp_path)}


@pytest.mark.slow
def test_an_analysis_of_ones_own_runs_in_a_run_and_by_its_name(project, own):
    folder, environment = own
    words = ("data=sample", "features=word_tfidf", "model=multinomial_nb", "tracking=none")
    chosen = (f"--config-dir={folder}", "+evaluation/analyses@evaluation.analyses.lengths=lengths")
    done = project.run(*words, *chosen, "evaluation.latency_repeats=0", env=environment)
    assert done.returncode == 0, done.stderr
    (run,) = project.run_folders
    found = stored_findings(run, "lengths")
    assert found.metrics["test/words_right"] == project.result()["metrics"]["test/words_right"] > 5
    assert [block.name for block in found.blocks] == ["longest", "lengths"]
    assert not (run / "analysis" / "lengths" / "lengths.png").exists(), "a run draws nothing"
    command = ("analyse", "--config-dir", str(folder), "lengths", run.name)
    refused = project.agnews(*command, "shown=0", env=environment)
    assert "greater than or equal to 1" in refused.stderr
    done = project.agnews(*command, "shown=2", env=environment)
    assert done.returncode == 0, done.stderr
    assert "Does it err on long texts?" in done.stdout
    assert (run / "analysis" / "lengths" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "analysis" / "lengths" / "findings.json").read_text())["arguments"] == {"shown": 2}
    assert len(stored_findings(run, "lengths").blocks[0].rows) == 4
    drawn = project.agnews("figures", run.name, "--svg", "--dark")
    assert [Path(line).name for line in drawn.stdout.splitlines()] == [
        "lengths.svg", "confusion_test.svg", "confusion_val.svg",
    ]  # fmt: skip

"""Sweeps through a Ray cluster of two nodes, started here."""

from __future__ import annotations

import importlib.util
import json

import pytest

INSTALLED = importlib.util.find_spec("ray") is not None and importlib.util.find_spec("hydra_plugins.hydra_ray_launcher")
needs_ray = pytest.mark.skipif(not INSTALLED, reason="ray is not installed: pip install 'agnews-exp[ray]'")


@pytest.fixture
def cluster(sweeps, monkeypatch):
    """Two nodes with room for one job each; their workers find the ill-behaved estimators."""
    from ray.cluster_utils import Cluster

    for name, value in sweeps.env.items():
        monkeypatch.setenv(name, value)
    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    del node["include_dashboard"]
    made.add_node(**node)
    yield made
    made.shutdown()


@pytest.mark.slow
@needs_ray
def test_failures_nesting_and_repeats_are_the_same_on_a_ray_cluster_of_two_nodes(sweeps, cluster, tmp_path):
    flag, notes = tmp_path / "flag", tmp_path / "notes"
    both = f"note:RAY_RAYLET_PID@{notes},note:RAY_RAYLET_PID@{tmp_path}/../{tmp_path.name}/notes"  # one file, two jobs
    words = (
        "model=faulty", f"model.fault={both},exit,unless:{flag},7",
        "model.seconds=3", "hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}",
        "sweep.name=other",
    )  # fmt: skip
    first = sweeps.run(*words)
    assert first.returncode == 1, first.stdout + first.stderr
    assert [s["status"] for s in sweeps.states()] == ["finished", "finished", "failed", "failed", "failed"]
    reasons = [s["reason"] for s in sweeps.states()]
    assert "the job ended without a result" in reasons[2]
    assert "is missing" in reasons[3]
    assert "'fault' parameter" in reasons[4]
    assert len({json.loads(line)[0] for line in notes.read_text().splitlines()}) == 2  # one job ran on each node
    flag.touch()
    again = sweeps.run(*words)
    assert again.returncode == 1
    assert [s["status"] for s in sweeps.states()] == ["finished", "finished", "failed", "finished", "failed"]
    assert [s["attempts"] for s in sweeps.states()] == [1, 1, 2, 2, 2]
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FAILED"
    assert sorted(c.data.tags["sweep.job"] for c in children if c.info.status == "FINISHED") == ["0", "1", "3"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert not [c for c in children if c.info.status == "RUNNING"]

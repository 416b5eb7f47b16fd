"""Which GPUs the jobs of a sweep really see, told by the jobs themselves."""

from __future__ import annotations

import json

import pytest


def spans(path) -> dict[str, list[tuple[float, float]]]:
    """When which devices were in use: every job's beginning and end by its CUDA_VISIBLE_DEVICES."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text().splitlines():
        devices, began, ended = json.loads(line)
        found.setdefault(devices, []).append((began, ended))
    return found


def most_at_once(times: list[tuple[float, float]]) -> int:
    """How many of some jobs ran at the same time at most."""
    return max(sum(a <= began < b for a, b in times) for began, _ in times)


def run(sweeps, path, *words: str, visible: str):
    command = sweeps.words("model=faulty", f"model.fault=note:CUDA_VISIBLE_DEVICES@{path}", "tracking=none", *words)
    return sweeps.project.run(*command, env=sweeps.env | {"CUDA_VISIBLE_DEVICES": visible})


@pytest.mark.slow
def test_parallel_jobs_get_a_gpu_each_by_the_names_that_the_sweep_sees(sweeps, tmp_path):
    notes = tmp_path / "notes"
    words = ("seed=1,2,3,4", "model.seconds=1", "hydra.launcher.n_jobs=4", "hydra.launcher.gpus_per_job=1")
    done = run(sweeps, notes, *words, visible="3,GPU-8f2c")
    assert done.returncode == 0, done.stdout + done.stderr
    used = spans(notes)
    assert set(used) == {"3", "GPU-8f2c"}
    assert sum(len(times) for times in used.values()) == 4
    assert [most_at_once(times) for times in used.values()] == [1, 1]
    assert most_at_once([t for times in used.values() for t in times]) == 2


@pytest.mark.slow
def test_jobs_get_as_many_threads_as_asked(sweeps, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # the user's own setting would win
    notes = tmp_path / "notes"
    words = sweeps.words(
        "model=faulty", f"model.fault=note:OMP_NUM_THREADS@{notes}", "hydra.launcher.threads_per_job=3"
    )
    done = sweeps.project.run(*words, "seed=1", "tracking=none", env=sweeps.env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(spans(notes)) == {"3"}


@pytest.mark.slow
def test_as_many_jobs_share_a_gpu_as_are_allowed_to(sweeps, tmp_path):
    notes = tmp_path / "notes"
    words = (
        "seed=1,2,3", "model.seconds=2", "hydra.launcher.n_jobs=3", "hydra.launcher.gpus_per_job=1",
        "hydra.launcher.jobs_per_gpu=2", "hydra.launcher.gpus=[1]",
    )  # fmt: skip
    done = run(sweeps, notes, *words, visible="0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    used = spans(notes)
    assert list(used) == ["1"]
    assert len(used["1"]) == 3
    assert most_at_once(used["1"]) == 2


@pytest.mark.slow
def test_a_job_of_several_gpus_gets_them_all(sweeps, tmp_path):
    notes = tmp_path / "notes"
    words = ("seed=1,2", "hydra.launcher.n_jobs=2", "hydra.launcher.gpus_per_job=2")
    done = run(sweeps, notes, *words, visible="0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    used = spans(notes)
    assert {name: len(times) for name, times in used.items()} == {"0,1": 2}
    assert most_at_once(used["0,1"]) == 1


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_sweep_whose_jobs_want_more_gpus_than_are_visible_does_not_start(sweeps, tmp_path, visible):
    done = run(sweeps, tmp_path / "notes", "seed=1,2", "hydra.launcher.gpus_per_job=1", visible=visible)
    assert done.returncode == 2
    assert "gpus_per_job=1, but 0 GPUs are visible" in done.stderr
    assert not (tmp_path / "notes").exists()

"""The wheel works where the repository is not: an empty folder, configurations and components of the user's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
COPIED = ("pyproject.toml", "README.md", "LICENSE", "conf", "agnews_exp")
"""What the Dockerfile copies to build the wheel: nothing else may be needed."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in COPIED:
        place = REPO / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, source / name)
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = built.glob("*.whl")
    return path


def test_wheel_holds_configurations_and_data_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    expected = {f"agnews_exp/{path.relative_to(REPO)}" for path in (REPO / "conf").rglob("*.yaml")}
    expected |= {
        str(path.relative_to(REPO))
        for path in (REPO / "agnews_exp").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= set(names), sorted(expected - set(names))
    assert "agnews_exp/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"agnews_exp"}


@dataclass
class Installed:
    """The wheel, unpacked where Python finds it before the checkout; commands run in an empty folder."""

    project: object
    site: Path

    def agnews(self, *words, **environment):
        path = f"{self.site}:{self.project.root}"
        env = {"PYTHONPATH": path, "AGNEWS_ROOT": "", "NUMBA_CACHE_DIR": str(self.site)} | environment
        return self.project.agnews(*words, env=env)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory, module_project):
    site = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*words, "--target", str(site), str(wheel)], check=True)
    return Installed(replace(module_project, cold=True), site)  # a warm process has the checkout's modules


def test_installed_package_finds_its_own_configurations(installed):
    done = installed.agnews("validate", "data=sample", "model=logreg")
    assert done.returncode == 0, done.stderr
    assert "agnews run data=sample model=logreg" in done.stdout  # there is no run.py


@pytest.mark.slow
def test_quickstart_runs_in_an_empty_folder_and_leaves_everything_there(installed):
    done = installed.agnews("run", "experiment=quickstart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed.project.result()["metrics"]["test/macro_f1"] > 0.8
    assert (installed.project.root / "mlruns" / "mlflow.db").is_file()
    environment = json.loads((installed.project.run_folders[0] / "environment.json").read_text())
    assert str(REPO) not in json.dumps(environment.get("git", ""))


@pytest.mark.slow
def test_sweep_over_a_configuration_folder_and_an_estimator_of_ones_own(installed):
    root = installed.project.root
    (root / "mine" / "model").mkdir(parents=True)
    (root / "mine" / "model" / "quiet.yaml").write_text(
        "name: quiet\nfamily: classical\naccepts: [sparse]\n_target_: my_estimators.Quiet\nstrategy: prior\n"
    )
    (root / "my_estimators.py").write_text(
        "from sklearn.dummy import DummyClassifier\n\n\nclass Quiet(DummyClassifier):\n    pass\n"
    )
    words = ("--config-dir", "mine", "data=sample", "features=bow", "tracking=none", "evaluation.latency_repeats=0")
    refused = installed.agnews("validate", "--config-dir", "mine", "model=quiet")
    assert refused.returncode == 2
    assert "AGNEWS_COMPONENTS=my_estimators" in refused.stderr
    trust = {"AGNEWS_COMPONENTS": "my_estimators"}
    done = installed.agnews("run", "-m", *words, "model=quiet,multinomial_nb", "sweep.name=own", **trust)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = root / "outputs" / "sweeps" / "own"
    assert (sweep / "conf_1" / "model" / "quiet.yaml").is_file()
    assert "_target_: my_estimators.Quiet" in (sweep / "0" / "config.yaml").read_text()

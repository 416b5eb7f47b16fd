"""What starting costs, and what is not imported."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

PROBE = """
import runpy, sys
sys.argv = ["run.py", *{arguments!r}]
try:
    runpy.run_path({script!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted({{m.split(".")[0] for m in sys.modules}}))
"""


def loaded_modules(project, *arguments):
    """Names of the top-level modules that a run.py process holds at its end."""
    code = PROBE.format(arguments=list(arguments), script=str(REPO / "run.py"))
    done = project.command("-c", code)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_imports_no_ml_library(project):
    modules = loaded_modules(project, "--help")
    assert "hydra" in modules
    assert not modules & {"torch", "sklearn", "mlflow", "numpy", "pandas", "transformers", "lightning", "numba"}


def test_help_names_groups_and_examples(cold_project):
    done = cold_project.run("--help")
    assert done.returncode == 0
    for word in ("features: ", "model: ", "trainer: ", "data_fraction", "python run.py -m", "experiment=quickstart"):
        assert word in done.stdout


def test_classical_run_never_imports_torch_and_takes_trainer_devices_without_a_plus(project):
    words = ("model=linear_svc", "features=hybrid_tfidf", "tracking=mlflow", "trainer.devices=1", "data_fraction=0.2")
    modules = loaded_modules(project, "data=sample", *words)
    assert "sklearn" in modules
    assert not modules & {"torch", "transformers", "lightning", "pytorch_lightning"}


def test_run_py_stays_short():
    assert len((REPO / "run.py").read_text().splitlines()) <= 40

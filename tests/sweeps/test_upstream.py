"""The parts of Hydra and Optuna without a public name still do what a sweep needs, and modules to preload exist."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import optuna
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from optuna.distributions import CategoricalDistribution, FloatDistribution

from agnews_exp.config.compose import register
from agnews_exp.core.paths import config_folder
from agnews_exp.sweeps.state import snapshot_config
from agnews_exp.sweeps.upstream import compose_from, read_distributions, reopen_trial, trial_id


def test_hydra_composes_from_the_copy_of_the_configuration(tmp_path):
    snapshot_config(config_folder(), tmp_path / "conf")
    yaml = tmp_path / "conf" / "model" / "logreg.yaml"
    yaml.write_text(yaml.read_text().replace("name: logreg", "name: copied"))
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(config_folder())):
        loader = GlobalHydra.instance().hydra.config_loader
        words = ["data=sample", "hydra.mode=MULTIRUN"]
        master = loader.load_configuration("config", words, run_mode=RunMode.MULTIRUN)
        compose_from(HydraContext(config_loader=loader, callbacks=None), [tmp_path / "conf"])
        assert loader.load_sweep_config(master, ["model=logreg"]).model.name == "copied"
    GlobalHydra.instance().clear()


def test_the_grammar_of_searches_is_read():
    words = ["model.C=tag(log,interval(0.1,10.0))", "model=a,b", "seed=3", "~tags"]
    distributions, fixed, lines = read_distributions(words)
    assert distributions["model.C"] == FloatDistribution(0.1, 10.0, log=True)
    assert isinstance(distributions["model"], CategoricalDistribution)
    assert fixed == {"seed": "3"}
    assert lines == ["~tags"]


def test_a_running_trial_is_gone_on_with():
    study = optuna.create_study()
    value = study.ask().suggest_float("x", 0, 1)
    (running,) = study.get_trials()
    again = reopen_trial(study, running)
    assert again.suggest_float("x", 0, 1) == value
    assert trial_id(again) == trial_id(running)
    study.tell(again.number, 1.0)
    assert [t.state.name for t in study.get_trials()] == ["COMPLETE"]


def test_every_module_that_the_server_preloads_exists():
    source = Path(
        str(importlib.util.find_spec("agnews_exp.sweeps.warm").origin)
    ).read_text()  # an import would do it all
    (modules,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "MODULES"
    )
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []

"""Jobs composed from what they share are what Hydra composes."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from agnews_exp.config.compose import register
from agnews_exp.core.paths import config_folder
from agnews_exp.sweeps import register_plugins
from agnews_exp.sweeps.clusters import SweepConfigLoader

JOB = ("hydra.sweep.dir=/tmp/a", "hydra.sweep.subdir='3'", "+hydra.job.env_set.AGNEWS_JOB_NUM='3'")


@pytest.fixture
def loaders():
    """Hydra's loader, ours beside it, and the configuration of a sweep."""
    register()
    register_plugins()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(config_folder())):
        hydra = GlobalHydra.instance().hydra
        loader = hydra.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        words = ["data=sample", "hydra/launcher=basic", "hydra.mode=MULTIRUN"]
        master = loader.load_configuration("config", words, run_mode=RunMode.MULTIRUN)
        yield loader, SweepConfigLoader(loader), master
    GlobalHydra.instance().clear()


def composed(loader: ConfigLoaderImpl, master: DictConfig, words: tuple[str, ...]) -> str:
    """Return a job's configuration as text, or the error that it is refused with."""
    try:
        return OmegaConf.to_yaml(loader.load_sweep_config(master, [*words, *JOB]))
    except HydraException as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    "jobs",
    [
        [("data=sample", "seed=1"), ("data=sample", "seed=2"), ("data=sample", "seed=1")],
        [("model=logreg", "model.C=0.5"), ("model=linear_svc", "model.C=2"), ("model=logreg", "model.C=3")],
        [("experiment=quickstart", "data_fraction=0.5"), ("experiment=quickstart", "data_fraction=0.25")],
        [("features=hybrid_tfidf", "features.blocks.word.ngram_range=[1,1]"), ("features=svd", "model=logreg")],
        [("seed=1", "model=logreg"), ("tags.purpose=try", "seed=2"), ("+tags.other=x", "seed=3"), ("~tags", "seed=4")],
        [("model.strategy='a b'", "model=dummy"), ("model={name: x}",)],
    ],
    ids=["values", "groups and their values", "experiment", "lists", "added and removed keys", "whole nodes"],
)
def test_jobs_are_composed_as_hydra_does_it(loaders, jobs):
    hydra, ours, master = loaders
    for words in jobs:
        assert composed(ours, master, words) == composed(hydra, master, words)


@pytest.mark.parametrize(
    "words", [("model.no_such_key=1",), ("model=no_such_model",), ("seed=1,2",), ("hydra.launcher.n_jobs=9",)]
)
def test_what_cannot_be_composed_is_refused_as_hydra_refuses_it(loaders, words):
    hydra, ours, master = loaders
    refused = composed(hydra, master, words)
    assert "Exception: " in refused
    assert composed(ours, master, words) == refused


def test_a_job_that_changes_its_configuration_changes_no_other(loaders):
    _, ours, master = loaders
    first = ours.load_sweep_config(master, ["model=logreg", "seed=1"])
    OmegaConf.update(first, "model.C", 99)
    second = ours.load_sweep_config(master, ["model=logreg", "seed=2"])
    assert (second.model.C, second.seed) != (99, 1)
    assert second.seed == 2

"""Going on with what a folder has stored: changed data, another version, and folders that somebody else made."""

from __future__ import annotations

import json
import shutil

import pytest

from agnews_exp import __version__
from agnews_exp.config.compose import compose_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.core.paths import config_folder
from agnews_exp.sweeps.replay import check_stored
from agnews_exp.sweeps.session import SweepSession
from agnews_exp.sweeps.state import JobState, SweepFolder


def stored(path, *words: str) -> SweepFolder:
    """A sweep with one finished job and this project's configuration, as an earlier call left it."""
    folder = SweepFolder(path)
    (folder.path / "jobs").mkdir(parents=True)
    shutil.copytree(config_folder(), folder.snapshot(0))
    folder.update(words=list(words), configs=1, command="python run.py -m ...", maximise=True, primary="val/macro_f1",
                  version=__version__)  # fmt: skip
    folder.store(JobState(0, words, status="finished", objective=0.5))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> SweepFolder:
    """A harmless sweep."""
    return stored(tmp_path_factory.mktemp("sweeps") / "mine")


@pytest.mark.parametrize(
    "words",
    [
        ["model=linear_svc,logreg", "seed=range(5)", "model.C=1,10", "++evaluation.folds=5", "~tags"],
        ["hydra/sweeper=optuna", "model.C=tag(log, interval(0.01, 10))", "hydra.sweeper.pruner.name=median"],
        ["hydra/sweeper/sampler=random", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=7", "model.C=1,2"],
        ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=10"],
        ["hydra/launcher=ray", "hydra.verbose=true", "experiment=tiny_search"],
    ],
)
def test_what_sweeps_are_made_of_is_replayed(folder, words):
    check_stored(folder, words)


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.x._target_=os.system",
        "hydra.job_logging.handlers.console.class=evil.Handler",
        "hydra/job_logging=evil",
        "hydra.searchpath=[file:///tmp/evil]",
        "hydra.sweeper._target_=evil.Sweeper",
        "hydra.sweeper.sampler={_target_: os.system}",
        "hydra.launcher.setup=[rm -rf /]",
        "++hydra.launcher.python=/tmp/evil",
        "hydra.job.env_set={LD_PRELOAD: /tmp/evil.so}",
        "hydra.run.dir=/tmp/elsewhere",
        "+model@hydra.callbacks=evil",
        "+model@_global_=evil",
        "--config-path=/tmp/evil",
    ],
)
def test_words_that_could_run_code_are_refused_by_name(folder, word):
    with pytest.raises(ConfigError, match="is not replayed") as caught:
        check_stored(folder, ["model=logreg", word])
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "setting"),
    [
        ("hydra:\n  callbacks:\n    x:\n      _target_: evil.Callback\n", "hydra.callbacks"),
        ("hydra:\n  job_logging:\n    handlers:\n      console:\n        (): evil.Handler\n", "hydra.job_logging"),
        ("hydra:\n  job:\n    env_set:\n      LD_PRELOAD: evil.so\n", "hydra.job.env_set"),
        ("hydra:\n  launcher:\n    _target_: evil.Launcher\n", "hydra.launcher._target_"),
        ("hydra:\n  sweeper:\n    _target_: evil.Sweeper\n", "hydra.sweeper._target_"),
    ],
)
def test_a_stored_configuration_that_changes_hydra_itself_is_refused(tmp_path, content, setting):
    folder = stored(tmp_path / "evil")
    experiment = folder.snapshot(0) / "experiment" / "evil.yaml"
    experiment.write_text(f"# @package _global_\n{content}")
    check_stored(folder, ["model=logreg"])
    with pytest.raises(ConfigError, match=setting):
        check_stored(folder, ["experiment=evil"])


def test_neither_command_runs_what_a_foreign_folder_asks_for(project, tmp_path):
    mark = tmp_path / "mark"
    word = f"+hydra.callbacks.x={{_target_: pathlib.Path.touch, self: '{mark}'}}"
    folder = stored(project.root / "outputs" / "sweeps" / "evil", "data=sample", "model=dummy", word)
    best = project.agnews("sweeps", "best", "evil", "--run")
    resumed = project.run("-m", "sweep.resume=evil")
    for done in (best, resumed):
        assert done.returncode == 2, done.stdout + done.stderr
        assert "hydra.callbacks" in done.stderr
    assert not mark.exists()
    assert not (folder.path / "0").exists()


def test_a_sweep_of_an_older_version_starts_anew_beside_it_with_this_versions_configuration(tmp_path, caplog):
    words = ("data=sample", "model=dummy", "seed=1", "tracking=none")
    folder = stored(tmp_path / "outputs" / "sweeps" / "mine", *words)
    folder.update(version="0.0.1")
    assert folder.snapshots == [config_folder()]
    # A place that the command names is no part of what the sweep is.
    config = compose_config([*words, "sweep.name=mine", f"paths.root_dir={tmp_path}"], hydra_node=True)
    with SweepSession(config, "seed", ["seed"], kind="grid") as session:
        assert session.folder.name == "mine-2"
        assert session.folder.info()["version"] == __version__
        assert session.folder.snapshots == [session.folder.snapshot(0)]
        assert len(session.plan([words])) == 1
    assert "the version of this package has changed from 0.0.1" in caplog.text
    assert "go on with the copy" not in caplog.text
    assert [state.status for state in folder.states()] == ["finished"]
    folder.update(status="failed")
    shutil.rmtree(folder.path / "jobs")  # nothing has finished: it is as old
    shutil.rmtree(folder.path.with_name("mine-2"))
    with SweepSession(config, "seed", ["seed"], kind="grid") as session:
        assert session.folder.name == "mine-2"


def test_an_error_after_a_command_has_become_another_has_no_traceback(project):
    stored(project.root / "outputs" / "sweeps" / "mine", "data=csv", "data.train_file=gone.csv", "tracking=none")
    done = project.agnews("sweeps", "best", "mine", "--run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: There is no file gone.csv")


@pytest.mark.slow
def test_the_same_command_runs_its_jobs_anew_when_data_or_version_have_changed(project):
    data = project.root / "data.csv"
    lines = ["text,label", *(f"{animal} number {n},{animal}" for n in range(40) for animal in ("cat", "dog", "hen"))]
    data.write_text("\n".join(lines))
    words = (
        "-m", "data=csv", f"data.train_file={data}", "model=dummy,multinomial_nb", "features=word_tfidf",
        "evaluation.latency_repeats=0", "tracking=none", "sweep.name=mine",
    )  # fmt: skip
    sweeps = project.root / "outputs" / "sweeps"

    def judged(name: str) -> set[str]:
        found = [json.loads(p.read_text())["data"]["evaluation_checksum"] for p in sweeps.glob(f"{name}/*/result.json")]
        assert len(found) == 2
        return set(found)

    assert project.run(*words).returncode == 0
    (first,) = judged("mine")
    assert project.run(*words).returncode == 0
    assert [p.name for p in sweeps.iterdir()] == ["mine"]
    data.write_text("\n".join([*lines, "a hen again,hen", "another dog,dog"]))
    changed = project.run(*words)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "the data have changed. The jobs run anew in 'mine-2'" in changed.stdout + changed.stderr
    (second,) = judged("mine-2")
    assert second != first
    folder = SweepFolder(sweeps / "mine-2")
    folder.update(version="0.0.1")
    resumed = project.run("-m", "sweep.resume=mine-2")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "the version of this package has changed from 0.0.1" in resumed.stdout + resumed.stderr
    assert (sweeps / "mine-2-2" / "aggregate.md").is_file()

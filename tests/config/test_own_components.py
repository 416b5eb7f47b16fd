"""Configuration folders and components of the user's own: found, checked, trusted only by the environment."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from agnews_exp.config.compose import compose_config, extra_folders, header_of, list_groups
from agnews_exp.config.fingerprint import fingerprint, own_sources
from agnews_exp.config.validation import check_config, to_plain
from agnews_exp.core.errors import ConfigError, StorageError
from agnews_exp.models.persistence import load_pipeline, save_pipeline

YAML = """# A model of my own.
#   agnews run --config-dir mine model=mine
# Expect little.
name: mine
family: classical
accepts: [sparse]
_target_: {target}
power: 1.0
"""
MODULE = """import os
from typing import Annotated

from pydantic import Field
from sklearn.dummy import DummyClassifier


class Mine(DummyClassifier):
    def __init__(self, power: Annotated[float, Field(gt=0)] = 1.0):
        super().__init__(strategy="prior")
        self.power = power
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A configuration folder with one model, whose class is in an importable module next to it."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(YAML.format(target=f"{name}.Mine"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("AGNEWS_COMPONENTS", raising=False)
    yield tmp_path / "conf", name
    sys.modules.pop(name, None)


def test_own_folder_adds_choices_to_those_of_the_project(mine):
    conf, _ = mine
    groups = list_groups(extra=[conf])
    assert {"mine", "linear_svc"} <= set(groups["model"])
    assert "mine" not in list_groups()["model"]
    assert header_of("model", "mine", extra=[conf]) == "A model of my own."


def test_misspelt_choice_suggests_one_of_the_own_folder(mine):
    conf, _ = mine
    with pytest.raises(ConfigError, match="Did you mean 'mine'"):
        compose_config(["model=mime"], extra=[conf])


def test_misspelt_key_of_an_own_choice_suggests_the_right_one(mine):
    conf, _ = mine
    with pytest.raises(ConfigError, match=r"Did you mean model\.power=2"):
        compose_config(["model=mine", "model.powr=2"], extra=[conf])


def test_folder_name_may_hold_what_the_override_grammar_reserves(tmp_path):
    folder = tmp_path / "it's {mine}, [really]"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "mine.yaml").write_text(YAML.format(target="sklearn.dummy.DummyClassifier"))
    assert compose_config(["model=mine"], extra=[folder]).model.name == "mine"


@pytest.mark.parametrize("words", [["--config-dir=%s"], ["--config-dir", "%s"], ["-cd", "%s"], ["-cd=%s"]])
def test_every_form_of_the_option_is_understood(tmp_path, words):
    given = [word.replace("%s", str(tmp_path)) for word in words]
    assert extra_folders(["-m", *given, "model=logreg", "-cn=config"]) == [tmp_path]


def test_missing_folder_is_named(tmp_path):
    assert extra_folders(["model=logreg", "--config-dir"]) == []  # Hydra says what it lacks
    with pytest.raises(ConfigError, match="no such folder"):
        extra_folders([f"--config-dir={tmp_path / 'absent'}"])


def test_own_component_is_refused_unless_the_environment_names_its_module(mine, monkeypatch):
    conf, name = mine
    with pytest.raises(ConfigError, match=f"AGNEWS_COMPONENTS={name}"):
        check_config(compose_config(["model=mine"], extra=[conf]))
    assert name not in sys.modules  # refused before anything of it ran
    monkeypatch.setenv("AGNEWS_COMPONENTS", f"other, {name}")
    assert check_config(compose_config(["model=mine"], extra=[conf])).run.model.name == "mine"


def test_arguments_of_an_own_component_are_checked_from_its_annotations(mine, monkeypatch):
    conf, name = mine
    monkeypatch.setenv("AGNEWS_COMPONENTS", name)
    with pytest.raises(ConfigError, match=r"model\.power"):
        check_config(compose_config(["model=mine", "model.power=-1"], extra=[conf]))


def test_what_an_own_module_imports_is_not_trusted_with_it(mine, monkeypatch):
    conf, name = mine
    monkeypatch.setenv("AGNEWS_COMPONENTS", name)
    (conf / "model" / "mine.yaml").write_text(YAML.format(target=f"{name}.os.system"))
    with pytest.raises(ConfigError):
        check_config(compose_config(["model=mine"], extra=[conf]))
    (conf / "model" / "mine.yaml").write_text(YAML.format(target=f"{name}.Field"))
    with pytest.raises(ConfigError, match="may not be built"):
        check_config(compose_config(["model=mine"], extra=[conf]))


def test_trust_in_a_module_is_not_trust_in_one_whose_name_begins_alike(mine, monkeypatch):
    conf, name = mine
    monkeypatch.setenv("AGNEWS_COMPONENTS", name[:-1])
    with pytest.raises(ConfigError, match="may not be built"):
        check_config(compose_config(["model=mine"], extra=[conf]))


def test_changed_source_of_an_own_component_is_another_run(mine, monkeypatch, tmp_path):
    conf, name = mine
    monkeypatch.setenv("AGNEWS_COMPONENTS", name)
    plain = to_plain(compose_config(["model=mine", "data=sample"], extra=[conf]))
    before = fingerprint(plain, "rows")
    assert fingerprint(plain, "rows") == before
    with (tmp_path / f"{name}.py").open("a") as file:
        file.write("# another thought\n")
    assert fingerprint(plain, "rows") != before


def test_changed_source_of_what_an_own_component_imports_is_another_run(mine, monkeypatch, tmp_path):
    conf, name = mine
    package = tmp_path / f"{name}_parts"
    package.mkdir()
    body = "        return super().fit(X, y)\n"
    lazily = f"    def fit(self, X, y):\n        from {name}_parts.deep import depth\n{body}"
    files = {
        tmp_path
        / f"{name}.py": f"import numpy\nfrom {name}_parts import *\nfrom {name}_parts.base import Base as Mine\n",
        package / "__init__.py": "",
        package / "base.py": f"from . import numbers_of\n{MODULE}\n{lazily}\n\nBase = Mine\n",
        package / "numbers_of.py": "from .deeper import nothing as nothing\n",
        package / "deeper.py": "nothing = 0\n",
        package / "deep.py": "depth = 1\n",
    }
    for path, text in files.items():
        path.write_text(text)
    (package / "unused.py").write_text("unused = 1\n")
    monkeypatch.setenv("AGNEWS_COMPONENTS", f"{name},{name}_parts")
    plain = check_config(compose_config(["model=mine", "data=sample"], extra=[conf])).plain
    before = fingerprint(plain, "rows")
    (package / "unused.py").write_text("unused = 2\n")
    assert fingerprint(plain, "rows") == before
    for path in files:
        with path.open("a") as file:
            file.write("# another thought\n")
        assert fingerprint(plain, "rows") != before, path.name
        before = fingerprint(plain, "rows")
    found = own_sources([f"{name}.Mine"])
    assert found["numpy"] == np.__version__  # installed: its version, not its source
    assert not any(module.startswith("numpy.") for module in found)
    assert "os" not in found
    assert f"{name}_parts.deep" not in sys.modules  # looked at, not imported


def test_stored_model_with_an_own_class_is_loaded_only_where_its_module_is_trusted(mine, monkeypatch, tmp_path):
    _, name = mine
    monkeypatch.setenv("AGNEWS_COMPONENTS", name)
    model = Pipeline([("model", importlib.import_module(name).Mine(power=2.0))])
    model.fit(np.zeros((4, 1)), np.array([0, 1, 1, 1]))
    save_pipeline(model, tmp_path / "model", ["a", "b"])
    assert load_pipeline(tmp_path / "model").predict(np.zeros((1, 1))) == [1]
    monkeypatch.delenv("AGNEWS_COMPONENTS")
    with pytest.raises(StorageError, match="not trusted"):
        load_pipeline(tmp_path / "model")

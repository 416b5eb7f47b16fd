"""Every YAML in conf/ composes, passes the schema and builds with every option; and says at its head what it is."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from agnews_exp.analyses.exploration.performing import compose_eda
from agnews_exp.config.compose import compose_config, list_groups
from agnews_exp.config.targets import resolve_target, safe_instantiate
from agnews_exp.config.validation import check_config

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = [(group, choice) for group, choices in list_groups().items() for choice in choices]
YAMLS = sorted(CONF.rglob("*.yaml"))
OF_COMPONENTS = ("model", "model/members", "features", "features/select", "features/reduce", "features/scale")
NEEDS_MORE = {
    ("model", "hf"): ["model.pretrained=someone/hf@main"],
    ("model", "network"): ["model.network=own_network.Network"],
    ("model", "answers"): ["features=text"],
    ("split", "group"): ["split.column=author"],
    ("split", "time"): ["split.column=date"],
}
ABOUT = {"name", "family", "accepts", "kind", "class_weight"}
OF_THE_RUNNER = {"teacher", "unlabelled", "unlabelled_rows", "fast", "accurate"}
"""Keys that name runs and rows: the runner reads them."""


def own_values(group: str, choice: str) -> dict[str, Any]:
    """Values of a YAML and of those that it is made from in its own group."""
    values = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    for parent in values.get("defaults", []):
        if isinstance(parent, str) and parent != "_self_" and not parent.startswith("/"):
            values = own_values(group, parent) | values
    return values


def partner(group: str, choice: str) -> list[str]:
    """Another group's choice that this one needs to make sense."""
    if group == "model/members":
        return ["model=stacking"]
    if group in ("tuning", "loss", "optimizer", "scheduler", "logger"):
        return ["model=tiny"]
    if group.startswith("features/"):
        return ["features=word_tfidf"]
    if group == "features":
        return ["model=tiny"] if own_values(group, choice)["kind"] == "text" else ["model=ridge"]
    if (group, choice) in NEEDS_MORE:
        return NEEDS_MORE[group, choice]
    if group == "model" and (values := own_values(group, choice))["family"] == "classical":
        kinds = {"dense": "features=svd", "text": "features=text", "sparse": "features=word_tfidf"}
        return [] if "student" in str(values) else [kinds[values["accepts"][0]]]
    return []


@cache
def all_analyses() -> dict[str, Any]:
    """The analyses of a run that performs them all."""
    analyses: dict[str, Any] = check_config(compose_config(["evaluation=full"])).plain["evaluation"]["analyses"]
    return analyses


def components(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, list):
        for number, value in enumerate(node):
            yield from components(value, f"{key}[{number}]")
    elif isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from components(value, f"{key}.{name}")


def listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value.replace("/", "."))
def test_choice_composes_and_builds_with_every_option(group, choice, tmp_path, monkeypatch):
    own = "class Network:\n    def __init__(self, vocabulary, n_classes, pad_id):\n        pass\n"
    (tmp_path / "own_network.py").write_text(own)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AGNEWS_COMPONENTS", "own_network")
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("word 0.1 0.2\n")
    monkeypatch.setenv("AGNEWS_EMBEDDINGS", str(vectors))
    if group == "evaluation/analyses" and choice != "cascade":  # model=cascade mounts that one
        assert all_analyses()[choice] is not None
        return
    if group == "eda":  # of `agnews eda` alone
        assert compose_eda([f"eda={choice}"]).settings["name"] == choice
        return
    if group == "evaluation/analyses":
        checked = check_config(compose_config(["model=cascade"]))
        assert checked.plain["evaluation"]["analyses"][choice] is not None
        return
    checked = check_config(compose_config([f"{group}={choice}", *partner(group, choice)]))
    if "/" not in group and group not in ("experiment", "paths", "logger") and "name" in checked.plain.get(group, {}):
        assert checked.plain[group]["name"] == choice
    if group in OF_COMPONENTS:
        for key, node in components(checked.plain[group.split("/", 1)[0]], group):
            check_that_options_arrive(key, node)


def check_that_options_arrive(key: str, node: dict[str, Any]) -> None:
    """Build a component from its YAML: it keeps every option as it stands there."""
    if importlib.util.find_spec(node["_target_"].split(".")[0]) is None:
        return
    options = {k: v for k, v in node.items() if k != "_target_" and k not in ABOUT | OF_THE_RUNNER}
    if not inspect.isclass(resolve_target(node["_target_"], key)) or any(components(list(options.values()), "")):
        return  # it puts parts together: these are checked one by one, what is made of them in test_ensembles.py
    built = safe_instantiate({"_target_": node["_target_"], **options}, key)
    has = built.get_params(deep=False) if hasattr(built, "get_params") else vars(built)
    assert {name: listed(has.get(name, "not kept")) for name in options} == options, key


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_yaml_opens_with_two_to_four_lines_of_explanation_and_a_command(path):
    header = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            header.append(line)
    assert 2 <= len(header) <= 4, header
    assert any(word in " ".join(header) for word in ("run.py", "make run", "agnews ")), header

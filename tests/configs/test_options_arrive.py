"""Every option of every model, feature block and network arrives where it is to work, unchanged."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from agnews_exp.config.compose import compose_config, list_groups
from agnews_exp.config.targets import resolve_target, safe_instantiate
from agnews_exp.config.validation import to_plain

GROUPS = ("model", "model/members", "features", "features/select", "features/reduce", "features/scale")
CHOICES = [(group, choice) for group, choices in list_groups().items() if group in GROUPS for choice in choices]
ABOUT = {"name", "family", "accepts", "kind"}
OF_THE_RUNNER = {"teacher", "unlabelled", "unlabelled_rows", "fast", "accurate"}
"""Keys that name runs and rows: the runner reads them."""


def composed(group: str, choice: str) -> dict[str, Any]:
    first = {"model/members": ["model=stacking"]}.get(group, ["features=word_tfidf"] if "/" in group else [])
    plain = to_plain(compose_config([*first, f"{group}={choice}"]))
    return plain[group.split("/", 1)[0]]


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
def test_every_option_arrives(group, choice, monkeypatch, tmp_path):
    (tmp_path / "vectors.txt").write_text("word 0.1 0.2\n", encoding="utf-8")
    monkeypatch.setenv("AGNEWS_EMBEDDINGS", str(tmp_path / "vectors.txt"))
    for key, node in components(composed(group, choice), group):
        package = node["_target_"].split(".")[0]
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
        options = {k: v for k, v in node.items() if k != "_target_" and k not in ABOUT | OF_THE_RUNNER}
        if not inspect.isclass(resolve_target(node["_target_"], key)) or any(components(list(options.values()), "")):
            continue  # it puts parts together: these are checked one by one, what is made of them in test_ensembles.py
        built = safe_instantiate({"_target_": node["_target_"], **options}, key)
        has = built.get_params(deep=False) if hasattr(built, "get_params") else vars(built)
        assert {name: listed(has.get(name, "not kept")) for name in options} == options, key

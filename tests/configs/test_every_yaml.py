"""Every YAML in conf/ composes, passes the schema and builds; and opens with a header that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agnews_exp.analyses.exploration.performing import compose_eda
from agnews_exp.config.compose import compose_config, list_groups
from agnews_exp.config.validation import check_config, to_plain

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = [(group, choice) for group, choices in list_groups().items() for choice in choices]
YAMLS = sorted(CONF.rglob("*.yaml"))


def partner(group: str, choice: str) -> list[str]:
    """Another group's choice that this one needs to make sense."""
    if group == "model/members":
        return ["model=stacking"]
    if group == "tuning":
        return ["model=tiny"]
    if group.startswith("features/"):
        return ["features=word_tfidf"]
    plain = to_plain(compose_config([f"{group}={choice}"]))
    kind, accepts = plain["features"]["kind"], plain["model"]["accepts"]
    if kind in accepts:
        return []
    if group == "model":
        return [{"dense": "features=svd", "text": "features=text", "sparse": "features=word_tfidf"}[accepts[0]]]
    return ["model=tiny"] if kind == "text" else ["model=linear_svc"]


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value.replace("/", "."))
def test_choice_composes_and_builds(group, choice, tmp_path, monkeypatch):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("word 0.1 0.2\n")
    monkeypatch.setenv("AGNEWS_EMBEDDINGS", str(vectors))
    if group == "evaluation/analyses":  # mounted by name: by model=cascade, or all others by evaluation=full
        words = ["model=cascade"] if choice == "cascade" else ["evaluation=full"]
        assert check_config(compose_config(words)).plain["evaluation"]["analyses"][choice] is not None
        return
    if group == "eda":  # of `agnews eda` alone
        assert compose_eda([f"eda={choice}"]).settings["name"] == choice
        return
    checked = check_config(compose_config([f"{group}={choice}", *partner(group, choice)]))
    if "/" not in group and group not in ("experiment", "paths") and "name" in checked.plain.get(group, {}):
        assert checked.plain[group]["name"] == choice


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

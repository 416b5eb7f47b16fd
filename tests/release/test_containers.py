"""Dockerfile, compose file, workflow and hooks name things that exist; an engine is needed for the rest."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPO / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((REPO / "docker-compose.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def copied():
    """Every path of the repository that the Dockerfile copies."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_everything_that_the_dockerfile_copies_exists_and_is_in_the_build_context():
    kept = {line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied()
    for source in copied():
        assert (REPO / source).exists(), source
        assert source in kept


def test_build_context_leaves_out_everything_else():
    lines = (REPO / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())


def test_image_runs_as_an_unprivileged_user_by_number():
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert users
    assert users[-1].isdigit()
    assert f"--uid {users[-1]}" in DOCKERFILE


def test_extras_of_the_image_exist():
    extras = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_documentation_lists_every_extra():
    table = (REPO / "docs" / "index.md").read_text(encoding="utf-8").partition("| Extra |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert sorted(named) == sorted(PROJECT["optional-dependencies"])


def test_image_takes_torch_at_the_constrained_version():
    assert re.search(r"^torch==\S+$", (REPO / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert "s/^torch==//p" in DOCKERFILE


def test_services_depend_on_services_with_a_health_check():
    services = COMPOSE["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            assert how["condition"] == "service_healthy"
            assert "test" in services[needed]["healthcheck"], needed


def test_only_the_loopback_address_is_published():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_volumes_and_secrets_that_services_use_are_declared():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


def test_no_password_stands_in_the_compose_file():
    text = (REPO / "docker-compose.yml").read_text()
    assert not re.search(r"PASSWORD: \S", text)
    assert not re.search(r"postgresql\S*://\w+:", text)  # it would stand in the server's command line


def test_workflow_runs_all_of_ci_on_every_supported_python():
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["check"]
    assert any(step.get("run") == "bash .ci/run" for step in job["steps"])
    tested = re.findall(r"Python (3\.\d+) and (3\.\d+)", (REPO / "constraints.txt").read_text())[0]
    assert job["strategy"]["matrix"]["python"] == list(tested)


@pytest.mark.parametrize(
    "hook", yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"], ids=lambda h: h["id"]
)
def test_hooks_run_what_make_check_runs(hook):
    tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
    recipe = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "check"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert f"/{tool}" in recipe.stdout

"""The `agnews` command."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request

import pytest


def test_list_names_groups_and_choices(project):
    done = project.agnews("list")
    assert done.returncode == 0
    assert "linear_svc" in done.stdout
    one = project.agnews("list", "model")
    assert "linear_svc" in one.stdout
    assert "Linear support vector machine" in one.stdout


def test_list_of_an_unknown_group_suggests_the_nearest(project):
    done = project.agnews("list", "modle")
    assert done.returncode == 2
    assert "Did you mean 'model'?" in done.stderr


def test_show_prints_the_resolved_configuration(project):
    done = project.agnews("show", "model=logreg", "model.C=7")
    assert done.returncode == 0
    assert "C: 7" in done.stdout
    assert "${" not in done.stdout


def test_validate_says_valid_or_why_not(project):
    good = project.agnews("validate", "data=sample", "model.C=0.5")
    assert good.returncode == 0
    assert "python run.py data=sample model.C=0.5" in good.stdout
    bad = project.agnews("validate", "model.C=-1")
    assert bad.returncode == 2
    assert "model.C=-1" in bad.stderr


def test_agnews_run_does_what_run_py_does(project):
    done = project.agnews(
        "run", "data=sample", "features=word_tfidf", "model=dummy", "tracking=none", "evaluation.latency_repeats=0"
    )
    assert done.returncode == 0, done.stderr
    assert project.statuses() == ["finished"]


def test_unknown_command_lists_the_commands(project):
    done = project.agnews("runn")
    assert done.returncode == 2
    assert "validate" in done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_ui_serves_the_runs_on_loopback(project):
    assert project.run("data=sample", "features=word_tfidf", "model=dummy").returncode == 0
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "agnews_exp.cli", "ui", "--port", str(port)],
        env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said = process.stdout.readline()  # the address comes when the server answers, and before that nothing
        assert f"http://127.0.0.1:{port}/" in said
        assert process.stdout.readline().startswith("sweeps:")
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60).read() == b"OK"
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=120)
    assert output == "", "it ends quietly"


def test_ui_on_a_taken_port_says_so(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = project.agnews("ui", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert f"--port {port + 1}" in done.stderr


def test_cache_shows_its_size_and_can_be_cleared(project):
    done = project.run(
        "data=sample", "features=word_tfidf", "model=dummy", "tracking=none", "evaluation.latency_repeats=0"
    )
    assert done.returncode == 0, done.stderr
    before = project.agnews("cache", "info")
    assert before.returncode == 0, before.stderr
    assert "features: holds" in before.stdout
    assert "holds 0 entries" not in before.stdout
    assert project.agnews("cache", "clear").returncode == 0
    assert "holds 0 entries" in project.agnews("cache", "info").stdout

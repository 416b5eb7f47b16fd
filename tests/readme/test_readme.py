"""Every command that README shows works as written, those on somebody's own CSV file too."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith(("python ", "agnews "))
]
OWN = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)


def test_readme_shows_at_least_five_examples():
    assert len(COMMANDS) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_readme_command_works(cold_project, command):
    program, *words = shlex.split(command)
    words = [str(REPO / "run.py"), *words[1:]] if program == "python" else ["-m", "agnews_exp.cli", *words]
    done = cold_project.command(*words, env={"AGNEWS_DATA_DIR": os.environ.get("AGNEWS_DATA_DIR", "")}, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_readme_commands_on_an_own_csv_work_and_say_what_stands_there(project):
    (block,) = OWN
    run_transcript(project, block, steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_transcripts_on_three_own_corpora_are_true(project, number):
    page = (REPO / "docs" / "how-to" / "own-corpora.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 3
    assert "'ticket_id' predicts team" in blocks[0], "the leak is found"
    run_transcript(project, blocks[number], steps=6)


def run_transcript(project, block, steps):
    """Run the commands of a transcript, and look for the lines that it shows of each."""
    subprocess.run([sys.executable, REPO / "scripts" / "make_tickets.py"], cwd=project.root, check=True)
    found = [step.partition("\n") for step in block.replace("\\\n", " ").split("$ agnews ")[1:]]
    assert len(found) == steps
    for command, _, shown in found:
        done = project.agnews(*shlex.split(command), env={"COLUMNS": "80"})
        assert done.returncode == 0, done.stdout + done.stderr
        said = comparable(done.stdout)
        assert [line for line in comparable(shown) if line != "..." and line not in said] == [], done.stdout


def comparable(text: str) -> list[str]:
    """Lines without the space at their ends and the last digits of confidences."""
    return [re.sub(r"(0\.\d{4})\d*}$", r"\1}", line.rstrip()) for line in text.splitlines()]


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"run", "test", "test-all"} <= shown <= targets


def test_places_named_in_the_readme_exist():
    for place in re.findall(r"^\| `([a-z_]+/)`", README, flags=re.MULTILINE):
        assert (REPO / place).is_dir(), place

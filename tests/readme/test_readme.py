"""Every command that README shows works as written, those on somebody's own CSV file too."""

from __future__ import annotations

import csv
import os
import random
import re
import shlex
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
TEAMS = {"billing": "invoice refund card", "delivery": "parcel courier customs", "account": "password login profile"}


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
def test_readme_commands_on_an_own_csv_work(project):
    draw = random.Random(1)
    rows = [[draw.choice(words.split()) for _ in range(2)] + [team] for team, words in TEAMS.items() for _ in range(40)]
    for name, columns in (("tickets.csv", 3), ("new.csv", 2)):
        with (project.root / name).open("w", newline="") as file:
            csv.writer(file).writerows([["subject", "message", "team"][:columns], *(row[:columns] for row in rows)])
    (block,) = OWN
    commands = re.findall(r"^\$ agnews (.*)", block.replace("\\\n", " "), flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        done = project.agnews(*shlex.split(command))
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(rows)


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"run", "test", "test-all"} <= shown <= targets


def test_places_named_in_the_readme_exist():
    for place in re.findall(r"^\| `([a-z_]+/)`", README, flags=re.MULTILINE):
        assert (REPO / place).is_dir(), place

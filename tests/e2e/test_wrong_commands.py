"""Wrong commands are told what was meant, and never a traceback; the list is that of scripts/wrong_commands.py."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_wrong_command_is_told_what_was_meant(project):
    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "wrong_commands.py"))
    (project.root / "texts.csv").write_text("text\na text\n")

    def agnews(*words: str) -> tuple[int, str]:
        done = project.agnews(*words)
        return done.returncode, done.stderr

    right, wrong = script["try_commands"](agnews)
    assert right == len(script["WRONG"]), wrong
    assert not wrong

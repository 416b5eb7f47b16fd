"""The shell examples of docs/ work as written: each page is a script, and all pages share one project folder."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page):
    """(language, title, text) of every fenced block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if any(language == "bash" for language, _, _ in blocks(page))]


@pytest.fixture(scope="module")
def shop(module_project):
    """A project with the `agnews` and `python` under test; runs leave out MLflow, and timings, which README shows."""
    command = module_project.root / "bin" / "agnews"
    command.parent.mkdir()
    command.write_text(
        "#!/bin/sh\n"
        '[ "$1" != run ] || set -- "$@" tracking=none evaluation.latency_repeats=0\n'
        f'exec {sys.executable} -m agnews_exp.cli "$@"\n'
    )
    command.chmod(0o755)
    python = command.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return module_project


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_how_tos_and_the_quickstart_show_commands():
    names = {page.stem for page in PAGES}
    assert {"index", "own-data", "new-model", "new-feature", "serving", "cascade"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_work(shop, page):
    script, port = ["set -e"], free_port()
    for language, title, text in blocks(page):
        if title:
            file = shop.root / title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif language == "bash":
            script.append(text.replace("8000", port))
    environment = shop.environment | {"PATH": f"{shop.root / 'bin'}:{shop.environment['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        capture_output=True, text=True, timeout=300, cwd=shop.root, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_files_that_a_page_shows_are_written_once(page):
    titles = [title for _, title, _ in blocks(page) if title]
    assert len(titles) == len(set(titles))

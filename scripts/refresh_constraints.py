"""Resolve all dependencies anew and rewrite constraints.txt, its heading kept; print what changed.

    .venv/bin/python scripts/refresh_constraints.py            # then: make test, and bash .ci/run
    .venv/bin/python scripts/refresh_constraints.py --check    # only print; exit code 1 when something would change

Nothing is installed: pip resolves for the Python that runs this (`pip install --dry-run --report`). A version that
needs a later patch of Python than :data:`OLDEST` is left for an earlier one: a system's own Python often is an old one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet

REPO = Path(__file__).resolve().parents[1]
CONSTRAINTS = REPO / "constraints.txt"
PROJECT = "agnews-exp"
_OF_TORCH_BUILD = re.compile(r"^(nvidia|cuda|triton)([-_.]|$)", re.IGNORECASE)
"""GPU libraries: they come with a build of torch, which is not ours to choose."""


OLDEST = "3.11.0"
"""The oldest Python that every pinned version must take."""


def normalised(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the heading lines of a constraints file, and its versions by name as written."""
    lines = text.splitlines()
    heading = [line for line in lines if line.startswith("#")]
    pins = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    return heading, pins


def write_pins(heading: Sequence[str], pins: Mapping[str, str]) -> str:
    """Return the content of a constraints file, sorted by name."""
    ordered = sorted(pins.items(), key=lambda pin: normalised(pin[0]))
    return "\n".join([*heading, *(f"{name}=={version}" for name, version in ordered)]) + "\n"


def pins_of_report(report: Mapping[str, object]) -> dict[str, str]:
    """Return name and version of every package in pip's installation report, but this project and GPU libraries."""
    found = {}
    for item in report["install"]:  # type: ignore[attr-defined]
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if normalised(name) != PROJECT and not _OF_TORCH_BUILD.match(name):
            found[name] = version.split("+", 1)[0]  # 2.13.0+cpu is 2.13.0 for everyone else
    return found


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return one line for every package that changed, came or went."""
    before = {normalised(name): version for name, version in old.items()}
    after = {normalised(name): version for name, version in new.items()}
    lines = []
    for name in sorted(before | after):
        was, now = before.get(name), after.get(name)
        if was != now:
            lines.append(f"{name:<32} {was or '(new)':<16} {now or '(gone)'}")
    return lines


def too_new(report: Mapping[str, object]) -> list[str]:
    """Return a constraint against every package in pip's installation report that :data:`OLDEST` cannot install."""
    found = []
    for item in report["install"]:  # type: ignore[attr-defined]
        metadata = item["metadata"]
        if not SpecifierSet(metadata.get("requires_python") or "").contains(OLDEST):
            found.append(f"{metadata['name']}!={metadata['version']}")
    return found


def resolve(extras: Sequence[str]) -> dict[str, str]:
    """Let pip resolve the project with these extras, as if nothing were installed."""
    avoided: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path, constraints = Path(folder) / "report.json", Path(folder) / "avoided.txt"
        while True:
            constraints.write_text("\n".join(avoided) + "\n", encoding="utf-8")
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
                 "--disable-pip-version-check", "--constraint", str(constraints), "--report", str(path),
                 f"{REPO}[{','.join(extras)}]"],
                check=True,
            )  # fmt: skip
            report = json.loads(path.read_text(encoding="utf-8"))
            if not (again := too_new(report)):
                return pins_of_report(report)
            print(f"not for Python {OLDEST}: {', '.join(again)}")
            avoided += again


def all_extras() -> list[str]:
    """Return the names of all extras in pyproject.toml."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(project["optional-dependencies"])


def main() -> int:
    """Resolve, compare, write; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only print what would change")
    parser.add_argument("--extras", nargs="*", default=all_extras(), help="default: all of pyproject.toml")
    options = parser.parse_args()
    heading, old = read_pins(CONSTRAINTS.read_text(encoding="utf-8"))
    new = resolve(options.extras)
    lines = changes(old, new)
    print("\n".join([f"{'package':<32} {'was':<16} is", *lines]) if lines else "nothing changed")
    if options.check:
        return int(bool(lines))
    CONSTRAINTS.write_text(write_pins(heading, new), encoding="utf-8")
    print(f"{len(new)} packages, {len(lines)} changes\nnext   make test && bash .ci/run")
    return 0


if __name__ == "__main__":
    sys.exit(main())

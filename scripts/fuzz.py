"""Fuzz what reads foreign input, guided by coverage (atheris) and by the server's own description (schemathesis).

    pip install atheris schemathesis        # beside the project, in an environment of their own; Linux
    python scripts/fuzz.py                  # every target for a minute
    python scripts/fuzz.py --only csv serve --seconds 300 --keep corpus
    python scripts/fuzz.py --only files --files 5000   # random files of all formats; needs neither
    python scripts/fuzz.py --list

A target may take its input or refuse it with an error for people. Anything else (another exception, a broken promise,
more than 10 seconds or 2 GB for one input) is a finding: its input is kept, its traceback shown; the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

SERVE = "serve"
FILES = "files"
_INSTRUMENTED = ["agnews_exp", "json", "skops"]
_LONGEST = 4096
_SHOWN = 25


@dataclass(frozen=True)
class Found:
    """What fuzzing a target came to.

    Attributes:
        inputs: How many were tried.
        covered: Edges of the instrumented code that they reached; None where nothing is instrumented.
        findings: What was wrong; empty if nothing was.
        seconds: Wall time.
    """

    inputs: int
    covered: int | None
    findings: list[str]
    seconds: float


def fuzz_bytes(name: str, seconds: int, folder: Path, seed: int) -> Found:
    """Fuzz a target in a process of its own, which libFuzzer ends when it finds something."""
    began = time.monotonic()
    corpus, artifacts = folder / name / "corpus", folder / name / "findings"
    for path in (corpus, artifacts):
        path.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=10", "-rss_limit_mb=2048", f"-seed={seed}",
        f"-artifact_prefix={artifacts}/", f"-dict={folder / name / 'words'}", "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    command = [sys.executable, __file__, "--inside", name, "--keep", str(folder), *flags]
    log = folder / name / "log.txt"
    environment = os.environ | {"AGNEWS_ROOT": str(folder / name / "root"), "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    said = log.read_text(encoding="utf-8", errors="replace")
    counted = re.findall(r"stat::number_of_executed_units: (\d+)", said)
    covered = re.findall(r"\bcov: (\d+)", said)
    findings = [] if done.returncode == 0 else [_what_happened(said, artifacts)]
    return Found(int(counted[-1]) if counted else 0, int(covered[-1]) if covered else 0, findings,
                 time.monotonic() - began)  # fmt: skip


def _what_happened(said: str, artifacts: Path) -> str:
    start = max(said.rfind("=== Uncaught Python exception"), said.rfind("ERROR: libFuzzer"), said.rfind("Traceback"), 0)
    lines = said[start:].splitlines()[:_SHOWN]
    kept = sorted(path.name for path in artifacts.iterdir())
    return "\n  ".join([*lines, f"inputs kept in {artifacts}: {', '.join(kept) or 'none'}"])


def inside(name: str, folder: Path, flags: list[str]) -> None:
    """Be the process that is fuzzed."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED, exclude=_compiled()):
        from fuzz_targets import TARGETS, emptied

        target = TARGETS[name]
        read = target.make(emptied(folder / name / "work"))
        warnings.simplefilter("ignore")
        for seed in target.seeds:  # what is imported when it is first used is instrumented, too
            read(seed)
    for number, seed in enumerate(target.seeds):
        (folder / name / "corpus" / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *flags], read)
    atheris.Fuzz()


def _compiled() -> list[str]:
    """Return the modules whose loops numba compiles: it does not know the calls that atheris puts between."""
    root = Path(__file__).resolve().parents[1]
    return [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "agnews_exp").rglob("*.py")
        if "features" in path.parts or "numba" in path.read_text(encoding="utf-8")
    ]


def fuzz(name: str, seconds: int, folder: Path, seed: int, files: int | None = None) -> Found:
    """Fuzz a target."""
    if name == FILES:
        from fuzz_files import fuzz_files

        began = time.monotonic()
        tried, findings = fuzz_files(folder / name, seed, files=files, seconds=seconds)
        return Found(tried, None, findings, time.monotonic() - began)
    if name == SERVE:
        from fuzz_serve import fuzz_serve

        began = time.monotonic()
        requests, findings, statuses = fuzz_serve(seconds)
        print("  statuses:", dict(sorted(statuses.items())))
        return Found(requests, None, findings, time.monotonic() - began)
    from fuzz_targets import TARGETS

    (folder / name).mkdir(parents=True, exist_ok=True)
    words = "".join(f'"{_escaped(word)}"\n' for word in TARGETS[name].words)
    (folder / name / "words").write_text(words, encoding="ascii")
    return fuzz_bytes(name, seconds, folder, seed)


def _escaped(word: str) -> str:
    """Return a word as libFuzzer's dictionaries write it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def main() -> int:
    """Fuzz; return the exit code."""
    from fuzz_targets import TARGETS
    from rich.console import Console
    from rich.table import Table

    what = {name: target.what for name, target in TARGETS.items()} | {SERVE: "requests to agnews serve (schemathesis)"}
    what[FILES] = "random files of all formats and encodings: no row is lost or joined"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(what), metavar="NAME", help="these targets (see --list)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--files", type=int, help="so many random files for the target files, whatever the time")
    parser.add_argument("--seed", type=int, default=1, help="makes the random choices (default 1)")
    parser.add_argument("--keep", type=Path, help="folder for corpora and findings, gone on with when it exists")
    parser.add_argument("--list", action="store_true", help="name the targets and stop")
    options = parser.parse_args()
    console = Console(width=150 if not sys.stdout.isatty() else None)
    if options.list:
        for name, line in what.items():
            console.print(f"{name:12}{line}", highlight=False)
        return 0
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))).resolve()
    found = {}
    for name in options.only or what:
        console.print(f"{name}: {what[name]}", highlight=False)
        found[name] = fuzz(name, options.seconds, folder, options.seed, options.files)
        for finding in found[name].findings:
            console.print(f"  {finding}", highlight=False, markup=False)
    table = Table(title="fuzzing")
    for column in ("target", "inputs", "edges reached", "findings", "seconds"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for name, result in found.items():
        covered = "" if result.covered is None else f"{result.covered:,}"
        table.add_row(name, f"{result.inputs:,}", covered, str(len(result.findings)), f"{result.seconds:.0f}")
    console.print(table)
    bad = sum(len(result.findings) for result in found.values())
    if not bad and options.keep is None:
        shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], Path(sys.argv[4]), sys.argv[5:])
    else:
        sys.exit(main())

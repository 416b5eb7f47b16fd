"""Trying mutants on copies of the project: each in a fork of a process that has the heavy libraries loaded."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation.mutants import Mutant

PRELOADED = (
    "pytest", "numpy", "scipy.stats", "scipy.optimize", "scipy.sparse", "pandas", "pyarrow.parquet", "sklearn.metrics",
    "sklearn.linear_model", "sklearn.isotonic", "sklearn.model_selection", "sklearn.feature_extraction.text",
    "sklearn.svm", "sklearn.naive_bayes", "sklearn.ensemble", "hypothesis", "hydra", "omegaconf", "pydantic",
    "matplotlib.backends.backend_agg", "torch", "datasets", "tokenizers", "numba", "rich.progress",
)  # fmt: skip
_PARTS = ("agnews_exp", "conf", "tests", "scripts", "run.py", "pyproject.toml", "README.md", "docs")
_MOST_SECONDS = 25.0
"""Tests of one mutant that take longer together are cut, the slowest first."""

_MEMORY = 8 << 30
_CHECK_EVERY = 5
"""Every so many mutants, what killed one is run without it."""


@dataclass(frozen=True)
class Tests:
    """Which tests run which lines, and how long they take.

    Attributes:
        lines: For each module (relative to the project), the tests that run each line.
        seconds: Of each test.
    """

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run what was changed, quickest first; of a module's own lines, all of its tests."""
        lines = self.lines.get(mutant.path, {})
        met = {test for line in range(mutant.line, mutant.last + 1) for test in lines.get(line, ())}
        if not mutant.in_function or met == {""}:  # run when the module is imported
            met = {test for tests in lines.values() for test in tests}
        found = met - {""}
        chosen, total = [], 0.0
        for test in sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test)):
            total += self.seconds.get(test, 0.0)
            if chosen and total > _MOST_SECONDS:
                break
            chosen.append(test)
        return chosen


def copy_project(source: Path, target: Path) -> None:
    """Copy what the tests need; an older copy is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in _PARTS:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=ignored)
        elif (source / name).exists():
            shutil.copy2(source / name, target / name)


def _environment(copy: Path) -> dict[str, str]:
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    own = {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": str(copy / ".numba")}
    return {k: v for k, v in os.environ.items() if not k.startswith(("AGNEWS_", "MLFLOW_"))} | one | own


def find_tests(copy: Path, packages: Sequence[str], folders: Sequence[str]) -> Tests:
    """Run the fast tests once with coverage and return which lines each one runs.

    Raises:
        SystemExit: A test fails without any mutant.
    """
    plugin = copy / "mutation_seconds.py"
    plugin.write_text(
        "import collections, json, pytest\n"
        "seconds = collections.Counter()\n"
        "def pytest_runtest_logreport(report):\n"
        "    seconds[report.nodeid] += report.duration\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_sessionfinish():\n"
        "    open('seconds.json', 'w').write(json.dumps(seconds))\n"
    )
    words = [sys.executable, "-m", "pytest", *folders, "-q", "-m", "not slow and not gpu", "-p", "no:cacheprovider"]
    words += ["-p", "mutation_seconds", "--cov-context=test", "--cov-report="]
    words += [f"--cov={package}" for package in packages]
    done = subprocess.run(words, cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The tests fail without a mutant:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    from coverage import CoverageData

    data = CoverageData(basename=str(copy / ".coverage"))
    data.read()
    lines = {}
    for file in data.measured_files():
        found = data.contexts_by_lineno(file)
        tests = {line: sorted({context.partition("|")[0] for context in names}) for line, names in found.items()}
        lines[str(Path(file).relative_to(copy))] = tests
    return Tests(lines, json.loads((copy / "seconds.json").read_text()))


def try_all(
    mutants: Sequence[Mutant], tests: Tests, copies: Sequence[Path], told: Callable[[], None]
) -> dict[Mutant, str]:
    """Try mutants, as many at once as there are copies.

    Args:
        mutants: What to try.
        tests: Which tests run which lines.
        copies: Copies of the project, one for each process.
        told: Called whenever one has been tried.

    Returns:
        For each mutant ``killed``, ``timed out``, ``survived`` or ``no test``.
    """
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    context = multiprocessing.get_context("fork")
    queue: Any = context.SimpleQueue()
    todo = sorted(range(len(mutants)), key=lambda i: mutants[i].path)
    workers = [
        context.Process(target=_work, args=([(i, mutants[i]) for i in todo[n :: len(copies)]], tests, copy, queue))
        for n, copy in enumerate(copies)
    ]
    for worker in workers:
        worker.start()
    results: dict[Mutant, str] = {}
    for _ in mutants:
        index, outcome = queue.get()
        results[mutants[index]] = outcome
        told()
    for worker in workers:
        worker.join()
    return results


def _work(mutants: Sequence[tuple[int, Mutant]], tests: Tests, copy: Path, queue: Any) -> None:
    for number, (index, mutant) in enumerate(mutants):
        try:
            chosen = tests.of(mutant)
            outcome = "no test"
            if chosen:
                seconds = sum(tests.seconds.get(test, 0.0) for test in chosen)
                with _written(copy / mutant.path, mutant.source, number):
                    outcome = _fork(copy, chosen, seconds)
                # What fails without the mutant, too, has not noticed it: a mutant before may have harmed the copy.
                if outcome == "killed" and number % _CHECK_EVERY == 0 and _fork(copy, chosen, seconds) != "survived":
                    outcome = "not tried: the tests fail here without a mutant"
        except BaseException as error:
            outcome = f"not tried: {error}"
        queue.put((index, outcome))


@contextmanager
def _written(path: Path, source: str, number: int) -> Iterator[None]:
    """Write a mutant, with a time that no stored bytecode has, and put the module back."""
    original, stat = path.read_bytes(), path.stat()
    path.write_text(source, encoding="utf-8")
    os.utime(path, (1e9 + 10 * number, 1e9 + 10 * number))
    try:
        yield
    finally:
        path.write_bytes(original)
        os.utime(path, (stat.st_atime, stat.st_mtime))


def _fork(copy: Path, chosen: Sequence[str], seconds: float) -> str:
    """Run tests in a fork; give it five times what they take, and time to start."""
    processor = 20 + 5 * seconds
    child = os.fork()
    if child == 0:
        _run_tests(copy, chosen, int(processor))
    deadline = time.monotonic() + 6 * processor
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timed out"
        time.sleep(0.02)
    if os.WIFSIGNALED(status):
        return "timed out" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "killed"
    # 1: a test failed, 2 and 4: the module or a test file could not be imported.
    outcomes = {0: "survived", 1: "killed", 2: "killed", 4: "killed"}
    return outcomes.get(os.WEXITSTATUS(status), f"not tried: pytest ended with {os.WEXITSTATUS(status)}")


def _run_tests(copy: Path, chosen: Sequence[str], processor: int) -> None:
    """Turn this process into pytest; never returns."""
    code = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        out = os.open(copy / "pytest.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(copy)
        os.environ.clear()
        os.environ.update(_environment(copy))
        sys.path.insert(0, str(copy))
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        import pytest

        code = int(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:cov", *chosen]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def by_module(results: dict[Mutant, str]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield each module with its counts of outcomes."""
    modules = sorted({mutant.path for mutant in results})
    for module in modules:
        counts: dict[str, int] = {}
        for mutant, outcome in results.items():
            if mutant.path == module:
                counts[outcome] = counts.get(outcome, 0) + 1
        yield module, counts

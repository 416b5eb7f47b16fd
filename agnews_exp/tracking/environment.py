"""The surroundings of a run that its numbers depend on beside the configuration: code, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import agnews_exp
from agnews_exp import __version__
from agnews_exp.core.process import born

_PACKAGES = (
    "scikit-learn",
    "numpy",
    "scipy",
    "numba",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "lightning",
    "xgboost",
    "lightgbm",
)
"""Libraries whose version can change a result."""


def describe_environment(root: Path) -> dict[str, Any]:
    """Return versions, git state and hardware; asks package metadata, so nothing heavy is imported."""
    import psutil

    return {
        "agnews_exp": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": platform.node(),
        "cpu": _cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": git_state(root),
        "source": source_digest(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "pid": os.getpid(),
        "born": born(),
    }


@cache
def source_digest() -> str:
    """Return 16 hex digits of the package's own source files: names and contents."""
    package = Path(agnews_exp.__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def other_source(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether an earlier run's environment names other source code of the package than today's."""
    return earlier.get("source") not in (None, now["source"])


def other_packages(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return which libraries an earlier run had in other versions, such as ``numpy 1.26.0 (now 2.0.0)``; or nothing."""
    before, today = earlier.get("packages") or {}, now["packages"]
    changed = [name for name in today if name in before and before[name] != today[name]]
    return ", ".join(f"{name} {before[name]} (now {today[name]})" for name in changed)


@cache  # the code of this process is what it was when it was imported
def git_state(root: Path) -> dict[str, Any]:
    """Return commit and dirtiness of a checkout; both None outside of one."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603
                ["git", "-C", str(root), *words],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    status = ask("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit, "dirty": None if status is None else bool(status)}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

"""What a number depends on beside the configuration: code, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agnews_exp import __version__

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
)


def describe_environment(root: Path) -> dict[str, Any]:
    """Return versions, git state and hardware; asks package metadata, so nothing heavy is imported.

    Args:
        root: The folder whose git state counts.
    """
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
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "pid": os.getpid(),
    }


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

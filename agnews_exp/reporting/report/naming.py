"""What the report calls a run: by what it is, not by when it ran, and so that every command finds it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from agnews_exp.tracking.record import RunFolder

_DIGITS = 8
_LONE_RUN = re.compile(r"(?:runs/)?(\d{8}-\d{6}-\d{6}-[0-9a-f]{6})")


def stable_name(run: RunFolder, fingerprint: str, output_dir: Path) -> str:
    """Return ``sweeps/<sweep>/<job>``, or a lone run's fingerprint as far as commands need it."""
    if run.path.parent.name == "sweeps" or run.path.parent.parent.name == "sweeps":
        return run.path.relative_to(output_dir).as_posix() if run.path.is_relative_to(output_dir) else str(run.path)
    return fingerprint[:_DIGITS]


class RunNames:
    """Puts the names of runs in the place of their folders, in commands and stored summaries.

    Args:
        output_dir: The project's output root; its own path is cut off, too.
    """

    def __init__(self, output_dir: Path) -> None:
        self._names: dict[str, str] = {}
        places = {str(output_dir), str(output_dir.resolve())}
        self._root = re.compile("|".join(re.escape(f"{place}/") for place in sorted(places)))

    def add(self, names: Mapping[str, str]) -> None:
        """Learn what runs are called.

        Args:
            names: Folder name to name.
        """
        self._names |= names

    def clean(self, text: str) -> str:
        """Return a text in which no folder tells when a run began or where the project lies."""
        return _LONE_RUN.sub(lambda m: self._names.get(m[1], m[0]), self._root.sub("", text))

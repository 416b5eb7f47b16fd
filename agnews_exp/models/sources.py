"""Finished runs that another run builds on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceRun:
    """A finished run, as a cascade uses it.

    Attributes:
        name: What people call it.
        fingerprint: Its identity.
        model: Its model folder.
        predictions: Its stored answers.
        evaluation_checksum: Which rows it was judged on.
        class_names: K names.
    """

    name: str
    fingerprint: str
    model: Path
    predictions: Path
    evaluation_checksum: str
    class_names: tuple[str, ...]

"""Finished runs that another run builds on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SourceRun:
    """A finished run, as a cascade or a student uses it.

    Attributes:
        name: What people call it.
        fingerprint: Its identity.
        model: Its model folder.
        predictions: Its stored answers.
        evaluation_checksum: Which rows it was judged on.
        class_names: K names.
        data_fraction: Share of the training rows that it learned from.
        metrics: Its numbers.
    """

    name: str
    fingerprint: str
    model: Path
    predictions: Path
    evaluation_checksum: str
    class_names: tuple[str, ...]
    data_fraction: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)

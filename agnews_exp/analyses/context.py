"""Goes when robustness, efficiency, cascade, external and exploration give findings of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agnews_exp.analyses.performing import AnalysisContext as AnalysisContext


@dataclass(frozen=True)
class Findings:
    """Findings with a summary in Markdown instead of blocks."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

"""Sentences that several parts of an exploration share."""

from __future__ import annotations

from collections.abc import Mapping


def reasons(left_out: Mapping[str, str]) -> str:
    """Return a list of what was left out of a part and why, to stand at its end; nothing when nothing was."""
    lines = [f"- left out, {what}: {' '.join(why.split())}" for what, why in left_out.items()]
    return "\n\n" + "\n".join(lines) if lines else ""

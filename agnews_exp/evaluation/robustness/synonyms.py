"""A small list of words that may stand for each other in news, written for this package."""

from __future__ import annotations

import importlib.resources
from functools import cache


def parse_groups(lines: str) -> dict[str, tuple[str, ...]]:
    """Return each word's synonyms: the other words of the lines that it stands in, in the order of the list.

    Args:
        lines: One group of words a line, separated by blanks; ``#`` opens a comment.
    """
    found: dict[str, dict[str, None]] = {}
    for line in lines.splitlines():
        words = line.split("#")[0].split()
        for word in words:
            found.setdefault(word, {}).update(dict.fromkeys(other for other in words if other != word))
    return {word: tuple(others) for word, others in found.items()}


@cache
def _shipped() -> dict[str, tuple[str, ...]]:
    file = importlib.resources.files(__package__) / "synonyms.txt"
    return parse_groups(file.read_text(encoding="utf-8"))


def synonyms_of(word: str) -> tuple[str, ...]:
    """Return the synonyms of a lower-case word in the same inflection; empty when the list has none."""
    return _shipped().get(word, ())

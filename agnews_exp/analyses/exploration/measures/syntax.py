"""Measures of parsed sentences."""

from __future__ import annotations

from collections.abc import Sequence


def tree_depth(heads: Sequence[int]) -> int:
    """Return the most ancestors that a word of a parsed text has; 0 for one word, or none.

    Args:
        heads: For each word the position of its head; a root is its own head.

    Raises:
        ValueError: The heads make a circle.
    """
    depths: list[int | None] = [None] * len(heads)
    for word in range(len(heads)):
        path = []
        at = word
        while depths[at] is None and heads[at] != at:
            path.append(at)
            at = heads[at]
            if len(path) > len(heads):
                raise ValueError("the heads make a circle")
        depth = depths[at] or 0
        depths[at] = depth
        for passed in reversed(path):
            depth += 1
            depths[passed] = depth
    return max((depth or 0 for depth in depths), default=0)

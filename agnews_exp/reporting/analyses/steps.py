"""A progress bar for the steps of an analysis."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def steps(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal, nothing elsewhere.

    Args:
        total: Number of steps.
        what: What is being done.

    Yields:
        A function to call after each step with its name.
    """
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)

        def advance(step: str) -> None:
            bar.update(task, advance=1, description=f"{what}: {step}")

        yield advance

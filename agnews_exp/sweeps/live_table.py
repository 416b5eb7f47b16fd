"""What a sweep shows while it runs: a live table in a terminal, a line for every job elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from agnews_exp.sweeps.jobs import JobState

log = logging.getLogger(__name__)


def clock(seconds: float) -> str:
    """Return seconds as ``12 s``, ``3:05`` or ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LiveTable:
    """Shows how far a sweep is; use as a context manager.

    Args:
        name: The sweep's name.
        total: How many jobs it has in all.
        settled: Jobs that earlier calls have done.
        swept: Override keys that vary, the only ones shown; empty shows all.
        maximise: Whether a higher objective is better; None when there is more than one objective.
    """

    def __init__(
        self,
        name: str,
        total: int,
        settled: list[JobState],
        swept: list[str],
        *,
        maximise: bool | None = True,
    ) -> None:
        self._name, self._total, self._swept, self._maximise = name, total, swept, maximise
        self._done = {s.num: s for s in settled}
        self._before = len(settled)
        self._running: dict[int, tuple[JobState, float]] = {}
        self._start = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), get_renderable=self._render, refresh_per_second=2, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, state: JobState) -> None:
        """Show a job as running."""
        self._running[state.num] = (state, time.monotonic())

    def ended(self, state: JobState) -> None:
        """Show a job's end."""
        self._running.pop(state.num, None)
        self._done[state.num] = state
        if self._live is None:
            value = "" if state.objective is None else f"  {state.objective:.4f}"
            reason = f"  {state.reason}" if state.status == "failed" else ""
            seconds = f"  {clock(state.seconds)}" if state.seconds is not None else ""
            words = state.words(self._swept)
            log.info(
                "[%d/%d] #%d %s%s%s%s  %s",
                len(self._done), self._total, state.num, state.status, value, reason, seconds, words,
            )  # fmt: skip

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, from the pace of this call so far; None before the first end."""
        done = len(self._done) - self._before
        if done <= 0:
            return None
        pace = (time.monotonic() - self._start) / done
        return pace * max(0, self._total - len(self._done))

    def best(self) -> JobState | None:
        """Return the finished job with the best objective so far."""
        scored = [s for s in self._done.values() if s.status == "finished" and s.objective is not None]
        if not scored or self._maximise is None:
            return None
        pick = max if self._maximise else min
        return pick(scored, key=lambda s: s.objective or 0.0)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        states = list(self._done.values())
        failed = sum(s.status in ("failed", "killed") for s in states)
        left = self.seconds_left
        pruned = sum(s.status == "pruned" for s in states)
        head = (
            f"{self._name}: {len(states) - failed} of {self._total} done"
            + (f" ({pruned} pruned)" if pruned else "")
            + f", {len(self._running)} running, {failed} failed"
            + (f", about {clock(left)} left" if left is not None else "")
        )
        table = Table(box=None, pad_edge=False, show_header=False)
        for state, since in list(self._running.values())[:12]:
            table.add_row(f"#{state.num}", "running", clock(time.monotonic() - since), state.words(self._swept))
        for state in states[-4:]:
            shown = state.reason if state.status == "failed" else f"{state.objective:.4f}" if state.objective else ""
            table.add_row(f"#{state.num}", state.status, shown or "", state.words(self._swept))
        if best := self.best():
            table.add_row(f"#{best.num}", "best", f"{best.objective:.4f}", best.words(self._swept), style="bold")
        return Group(Text(head, style="bold"), table)

"""What a fault came to, and the judge that tells it from what a command has left."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agnews_exp.tracking import record

TRACEBACK = "Traceback (most recent call last)"
_LAST_WORDS = ("cannot allocate memory for thread-local data: ABORT",)
"""What the C library says when it ends a process itself; nothing in Python hears of it."""


class Outcome(enum.Enum):
    """What a fault came to; the order is that of the table."""

    RIGHT = "right result"
    CLEAR = "clear error"
    WRONG = "wrong number"
    HANG = "hang"
    TRACEBACK = "bare traceback"
    LOST = "lost work"
    SKIPPED = "skipped"

    @property
    def bad(self) -> bool:
        """Whether the campaign fails by it."""
        return self in (Outcome.WRONG, Outcome.HANG, Outcome.TRACEBACK, Outcome.LOST)


@dataclass(frozen=True)
class Verdict:
    """An outcome and what there is to say about it."""

    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: Exit code; None when it was still running at the timeout.
        output: Standard output and standard error.
        seconds: Wall time.
    """

    code: int | None
    output: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a run must come to: its scores and its predictions' bytes."""

    scores: Mapping[str, float]
    predictions: str


Answers = Mapping[str, Answer]


def answer_of(run: record.RunFolder, result: Mapping[str, object]) -> Answer:
    """Return what a finished run says, without what differs from run to run (times, memory)."""
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    scores = {k: float(v) for k, v in metrics.items() if k.startswith(("train/", "val/", "test/"))}
    predictions = run.path / record.PREDICTIONS
    digest = hashlib.sha256(predictions.read_bytes()).hexdigest() if predictions.is_file() else "missing"
    return Answer(scores, digest)


def read_answers(output_dir: Path) -> list[tuple[str, str, Answer]]:
    """Return (folder, fingerprint, answer) of every record that counts as finished."""
    found = []
    for run in record.finished_runs(output_dir):
        result = run.result()
        if result is not None:
            name = run.path.relative_to(output_dir).as_posix()
            found.append((name, str(result["fingerprint"]), answer_of(run, result)))
    return found


def judge(
    output_dir: Path, done: Done, expected: Answers, needed: int, before: Sequence[str] = (), *, may_fail: bool = True
) -> Verdict:
    """Classify what a disturbed command has left.

    Args:
        output_dir: The project's outputs.
        done: The command's end.
        expected: Answers of undisturbed runs, by fingerprint.
        needed: How many different finished records a command that succeeds must leave.
        before: Folders of records that had finished before; they must be there still.
        may_fail: Whether a clear error is a good end (not when the fault is over).
    """
    if done.code is None:
        return Verdict(Outcome.HANG, f"no end within {done.seconds:.0f} s: {_last_line(done.output)}")
    answers = read_answers(output_dir)
    for name, fingerprint, answer in answers:
        if fingerprint not in expected:
            return Verdict(Outcome.WRONG, f"{name} is of another configuration: {fingerprint}")
        if answer != expected[fingerprint]:
            return Verdict(Outcome.WRONG, f"{name} says other numbers than the undisturbed run")
    if missing := set(before) - {name for name, _, _ in answers}:
        return Verdict(Outcome.LOST, f"no longer finished: {', '.join(sorted(missing))}")
    if TRACEBACK in done.output:
        return Verdict(Outcome.TRACEBACK, _last_line(done.output))
    if done.code != 0:
        if not any(sign in done.output for sign in ("error: ", *_LAST_WORDS)):
            return Verdict(Outcome.TRACEBACK, f"exit code {done.code} without a message: {_last_line(done.output)}")
        return Verdict(Outcome.CLEAR if may_fail else Outcome.LOST, _error_line(done.output))
    if (distinct := len({fingerprint for _, fingerprint, _ in answers})) < needed:
        return Verdict(Outcome.LOST, f"exit code 0, but {distinct} of {needed} records")
    return Verdict(Outcome.RIGHT)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1][:160]


def _error_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.startswith("error: ")), _last_line(text))[:160]

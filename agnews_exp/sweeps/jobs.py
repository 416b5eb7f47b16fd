"""The jobs of a sweep: what each one is, and how each one ended, kept in one small file a job."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from agnews_exp.config.entry import explain_exit
from agnews_exp.config.locations import run_command
from agnews_exp.tracking import record

Status = Literal["waiting", "running", "finished", "pruned", "failed", "killed"]
SETTLED = ("finished", "pruned")
"""Ends that a repeat of the command leaves alone."""

SCORE_TEST = "evaluation.score_test"
"""What a search switches off for its trials: the test set is scored once, for the one that was chosen."""

_LOG_TAIL_BYTES = 20_000
BAD_INPUT = 2
_CHECKSUM = "crc32"


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        num: Its number, which is also the name of its folder.
        overrides: Its overrides, such as ``("model=logreg", "data_fraction=0.25")``.
        env: Environment of this job alone, beside what every job of the sweep gets.
    """

    num: int
    overrides: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class JobState:
    """How far a job has come.

    Attributes:
        num: The job's number.
        overrides: Its overrides.
        status: What became of its last attempt.
        reason: Why it failed, in a line.
        traceback: The Python traceback of a failure, where there is one.
        attempts: How often it was started by this and earlier calls of the sweep.
        seconds: Wall time of the last attempt.
        max_rss_mb: Peak resident memory of the last attempt, in MiB.
        exit_code: Exit code of the last attempt; negative is a signal.
        objective: What the sweep goes by (``evaluation.primary``, or a search's own objective) of a finished job, or
            the last reported value of a pruned one.
        run: Folder of the run record relative to the sweep's folder; another sweep's where that had the result.
    """

    num: int
    overrides: tuple[str, ...]
    status: Status = "waiting"
    reason: str | None = None
    traceback: str | None = None
    attempts: int = 0
    seconds: float | None = None
    max_rss_mb: float | None = None
    exit_code: int | None = None
    objective: float | None = None
    run: str | None = None

    @classmethod
    def read(cls, path: Path) -> JobState | None:
        """Return the stored state, or None when there is none that can be read, or it is not what was written."""
        content = record.read_json(path)
        if content is None or content.pop(_CHECKSUM, None) not in (None, _checksum(content)):
            return None
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in content.items() if k in known}
        return cls(**kept | {"overrides": tuple(kept["overrides"])})

    def write(self, path: Path) -> None:
        """Store the state atomically."""
        content = asdict(self)
        record.write_json(path, content | {_CHECKSUM: _checksum(content)})

    @property
    def was_killed(self) -> bool:
        """Whether somebody else ended it with SIGKILL: the kernel for want of memory, or a user; not its timeout."""
        return self.exit_code == -signal.SIGKILL and self.reason == explain_exit(self.exit_code)

    def words(self, swept: Collection[str] | None = None) -> str:
        """Return the overrides as text to read: of the keys that vary where these are known, numbers rounded."""
        shown = [w for w in self.overrides if not swept or override_key(w) in swept]
        return " ".join(f"{key}{sign}{short_number(value)}" for key, sign, value in (w.partition("=") for w in shown))


def _checksum(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def short_number(text: str) -> str:
    """Return a long decimal number with four significant digits, any other text as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{value:.4g}" if len(text) > 8 and "." in text and math.isfinite(value) else text


def override_key(word: str) -> str:
    """Return the key of an override, without the signs and packages of Hydra's grammar."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def numbers_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers of a result.json: its metrics, and its timings as ``time/<stage>`` in seconds."""
    return {**result["metrics"], **{f"time/{stage}": float(s) for stage, s in result["timings"].items()}}


def judge(
    job: Job, before: JobState, folder: Path, *, code: int, timed_out: float | None, objective: str | None = None
) -> JobState:
    """Say how an attempt ended, from its run record, its report and its exit code.

    Args:
        job: The job.
        before: Its state while it ran.
        folder: The sweep's folder.
        code: Exit code; negative is a signal.
        timed_out: The timeout in seconds when that is what ended it.
        objective: The metric that the sweep goes by where that is not ``evaluation.primary``.
    """
    changes: dict[str, Any] = {"exit_code": code, "reason": None, "traceback": None}
    run = record.RunFolder(folder / str(job.num))
    result = run.result()
    report = record.read_json(report_path(folder, job.num)) or {}
    if result is not None:
        changes |= {"status": "finished", "objective": result.get("objective"), "run": str(job.num)}
    elif report.get("status") in SETTLED:
        changes |= {k: report.get(k) for k in ("status", "objective", "run", "reason")}
        if report["status"] == "finished":
            result = record.RunFolder(Path(os.path.normpath(folder / str(report["run"])))).result()
    else:
        changes |= _failure(run, log_path(folder, job.num), code, timed_out)
    if result is not None and objective is not None:
        changes["objective"] = numbers_of(result).get(objective)
    return JobState(**asdict(before) | changes)


def _failure(run: record.RunFolder, log: Path, code: int, timed_out: float | None) -> dict[str, Any]:
    stored = record.read_json(run.path / record.STATUS) or {}
    tail = _tail(log)
    reason = stored.get("reason")
    if timed_out is not None:
        reason = f"no end within the timeout of {timed_out:g} s"
    elif reason is None:
        said = [line for line in tail.splitlines() if line.startswith("error: ")]
        last = said[-1].removeprefix("error: ") if said else None
        reason = last if code > 0 and last else explain_exit(code)
    trace = stored.get("traceback") or (None if code == BAD_INPUT else _last_traceback(tail))
    if stored.get("status") == "running":
        run.abandon("failed", str(reason), traceback=trace)
    return {"status": "failed", "reason": str(reason).splitlines()[0], "traceback": trace}


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _last_traceback(text: str) -> str | None:
    start = text.rfind("Traceback (most recent call last)")
    return text[start:].strip() if start >= 0 else None


def state_path(folder: Path, num: int) -> Path:
    """Return where a job's state is stored."""
    return folder / "jobs" / f"{num}.json"


def report_path(folder: Path, num: int) -> Path:
    """Return where a job's process reports to (see :mod:`agnews_exp.tracking.job_report`)."""
    return folder / "jobs" / f"{num}.report.json"


def log_path(folder: Path, num: int) -> Path:
    """Return where everything goes that a job prints."""
    return folder / "logs" / f"{num}.log"


def repeat_command(overrides: Sequence[str], configs: Sequence[Path] = ()) -> str:
    """Return the shell command that repeats one job on its own.

    Args:
        overrides: The job's overrides.
        configs: Configuration folders to compose from, the main one first; none takes the project's own.
    """
    return f"{run_command()} {shlex.join([*config_words(configs), *single(overrides)])}"


def config_words(configs: Sequence[Path]) -> list[str]:
    """Return Hydra's words for configuration folders, the main one first."""
    return [f"--config-{'dir' if number else 'path'}={path}" for number, path in enumerate(configs)]


def single(overrides: Sequence[str]) -> list[str]:
    """Return a job's overrides as those of a run that is no sweep: an experiment file may ask for one by itself."""
    sweeping = any(override_key(word) == "experiment" for word in overrides)
    return [*overrides, *(["hydra.mode=RUN"] if sweeping else [])]

"""The sweep's folder: its identity, its copy of the configuration, its lock, and its jobs' states.

``outputs/sweeps/<name>/`` holds sweep.json, conf/ (the configuration as it was at the start), a run folder a job
(0/, 1/, ...), jobs/ (states), logs/, and at the end jobs.csv, aggregate.csv and aggregate.md.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import signal
import tempfile
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from agnews_exp import __version__
from agnews_exp.config.validation import to_plain
from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.core.paths import CHECKPOINTS, RESUME_FILE, check_file_name, config_folder, run_command, wrong_file_name
from agnews_exp.core.process import born, explain_exit, is_gone
from agnews_exp.tracking import record

Status = Literal["waiting", "running", "finished", "pruned", "failed", "killed"]
SETTLED = ("finished", "pruned")
"""Ends that a repeat of the command leaves alone."""

SCORE_TEST = "evaluation.score_test"
"""The setting that a search switches off for its trials: the test set is scored once, for the chosen trial."""

_LOG_TAIL_BYTES = 20_000
BAD_INPUT = 2
_CHECKSUM = "crc32"


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    num: int  # its number, which is also the name of its folder
    overrides: tuple[str, ...]  # its overrides, such as ``("model=logreg", "data_fraction=0.25")``
    env: tuple[tuple[str, str], ...] = ()  # environment of this job alone, beside what every job of the sweep gets


@dataclass(frozen=True)
class JobState:
    """The state of a job, as stored in the sweep's folder."""

    num: int  # the job's number
    overrides: tuple[str, ...]  # its overrides
    status: Status = "waiting"  # the state of its last attempt
    reason: str | None = None  # why it failed, in a line
    traceback: str | None = None  # the Python traceback of a failure, where there is one
    attempts: int = 0  # how often it was started by this and earlier calls of the sweep
    seconds: float | None = None  # wall time of the last attempt
    max_rss_mb: float | None = None  # peak resident memory of the last attempt, in MiB
    exit_code: int | None = None  # exit code of the last attempt; negative is a signal
    # What the sweep goes by (``evaluation.primary``, or a search's own objective) of a finished job, or the last
    # reported value of a pruned one.
    objective: float | None = None
    # Folder of the run record relative to the sweep's folder; another sweep's where that had the result.
    run: str | None = None

    @classmethod
    def read(cls, path: Path) -> JobState | None:
        """Return the stored state, or None when it is missing, unreadable or damaged."""
        content = record.read_json(path)
        if content is None or not isinstance(content.get("overrides"), list) or "num" not in content:
            return None
        if content.pop(_CHECKSUM, None) not in (None, _checksum(content)):
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

    A negative exit code is a signal; ``timed_out`` is the timeout in seconds when that is what ended it; ``objective``
    is the metric that the sweep goes by where it is not ``evaluation.primary``.
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
    """Return where a job's process reports to (see :mod:`agnews_exp.tracking.record`)."""
    return folder / "jobs" / f"{num}.report.json"


def log_path(folder: Path, num: int) -> Path:
    """Return where everything goes that a job prints."""
    return folder / "logs" / f"{num}.log"


def task_plain(config: DictConfig) -> dict[str, Any]:
    """Return the resolved task config of a sweep's command, without Hydra's node."""
    task = copy.deepcopy(config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return to_plain(task)


def command_words(config: DictConfig) -> list[str]:
    """Return the overrides of the sweep's command as they were given."""
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    hydra = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(task, list)
    assert isinstance(hydra, list)
    return [str(w) for w in [*task, *hydra] if not str(w).startswith("hydra.mode=")]


def config_sources(config: DictConfig) -> list[Path]:
    """Return the configuration folders to copy: the main one, then those of --config-dir."""
    found: dict[str, list[Path]] = {}
    for source in config.hydra.runtime.config_sources:
        if source.schema == "file" and os.path.isdir(source.path):  # noqa: PTH112
            found.setdefault(source.provider, []).append(Path(source.path))
    return [*found.get("main", []), *found.get("command-line", [])]


def clean_words(words: Sequence[str]) -> tuple[str, ...]:
    """Return a job's overrides without those that concern the sweep as a whole."""
    return tuple(w for w in words if not w.lstrip("+~").startswith("sweep."))


_LOCK = ".lock"
LOCK_SECONDS = 60.0
"""How long to wait for the last processes of an earlier call to end."""


class WorkLock:
    """The lock of one folder: a file descriptor that a call's child processes inherit.

    ``what`` names the folder in the error when another process works in it, ``fix`` is the advice there.
    """

    def __init__(self, folder: Path, what: str, fix: str) -> None:
        self._folder, self._what, self._fix = folder, what, fix
        self.descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder for this process and the children that get the descriptor."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(descriptor):
            owner = self._owner()
            if owner is not None or time.monotonic() > deadline:
                os.close(descriptor)
                who = f"process {owner}" if owner else "processes of an earlier call"
                raise ConfigError(f"{self._what} is being worked on by {who}.", fix=self._fix)
            time.sleep(0.1)
        self.descriptor = descriptor
        self._claim(descriptor)

    @staticmethod
    def _claim(descriptor: int) -> None:
        import psutil

        os.ftruncate(descriptor, 0)
        content = {"pid": os.getpid(), "started": psutil.Process().create_time(), "born": born()}
        os.pwrite(descriptor, json.dumps(content).encode(), 0)

    def _owner(self) -> int | None:
        """Return the parent process that holds the lock, or None when only its leftovers do."""
        content = record.read_json(self._folder / _LOCK)
        if content is None or is_gone(content["pid"], content["started"], content.get("born")):
            return None
        return int(content["pid"])

    @property
    def active(self) -> bool:
        """Whether a process works in the folder now."""
        try:
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _locked(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the folder back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _locked(descriptor: int) -> bool:
    """Try to take the lock on an open file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


SWEEP, CONF, BEST = "sweep.json", "conf", "best.json"
START = f"start one: {run_command()} -m model=linear_svc,logreg data_fraction=0.25,1.0"


class SweepFolder:
    """One sweep's folder, with its ``lock``, which the fork server and the jobs inherit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = WorkLock(
            path,
            f"The sweep '{path.name}'",
            "wait for it, or end it; sweep.name=<another> starts a sweep of its own",
        )

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    def snapshot(self, number: int) -> Path:
        """Return where the sweep's copy of a configuration folder lies: 0 is the main one, then --config-dir's."""
        return self.path / (CONF if number == 0 else f"{CONF}_{number}")

    @property
    def snapshots(self) -> list[Path]:
        """The copied configuration folders, the main one first; another version's main one gives way to this one's."""
        main, *more = [self.snapshot(n) for n in range(int(self.info().get("configs", 1)))]
        return [main if self.info().get("version") == __version__ else config_folder(), *more]

    def info(self) -> dict[str, Any]:
        """Return the content of sweep.json, empty when there is none."""
        return record.read_json(self.path / SWEEP) or {}

    def update(self, **changes: Any) -> None:
        """Change some keys of sweep.json."""
        record.write_json(self.path / SWEEP, self.info() | changes)

    def state(self, num: int) -> JobState | None:
        """Return a job's stored state."""
        return JobState.read(state_path(self.path, num))

    def store(self, state: JobState) -> None:
        """Store a job's state."""
        state.write(state_path(self.path, state.num))

    def states(self) -> list[JobState]:
        """Return the states of all jobs that were planned, by number."""
        paths = [p for p in (self.path / "jobs").glob("*.json") if p.stem.isdigit()]
        found = [JobState.read(p) for p in paths]
        return sorted((s for s in found if s is not None), key=lambda s: s.num)

    def run_of(self, state: JobState) -> record.RunFolder | None:
        """Return the finished run record of a job, or None when there is none or it is damaged."""
        if state.run is None:
            return None
        run = record.RunFolder(Path(os.path.normpath(self.path / state.run)))
        return run if run.result() is not None else None

    def is_settled(self, state: JobState | None) -> bool:
        """Whether a job needs no further attempt: it finished (and its record is still there) or was pruned."""
        if state is None or state.status not in SETTLED:
            return False
        return state.status == "pruned" or self.run_of(state) is not None

    def has_checkpoint(self, num: int) -> bool:
        """Whether an unfinished attempt left a state that training can go on from."""
        return (self.path / str(num) / CHECKPOINTS / RESUME_FILE).is_file()

    def clear(self, num: int) -> None:
        """Remove the files of an unfinished attempt from the job's folder, unless it can go on; its log is kept."""
        if self.has_checkpoint(num):
            (self.path / str(num) / record.STATUS).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.path / str(num), ignore_errors=True)
        report_path(self.path, num).unlink(missing_ok=True)
        log_path(self.path, num).parent.mkdir(exist_ok=True)


def best_job(folder: SweepFolder, states: Sequence[JobState]) -> JobState | None:
    """Return a sweep's finished job with the best objective; None as for :func:`best_of`."""
    return best_of(states, folder.info().get("maximise"))


def best_of(states: Iterable[JobState], maximise: bool | None) -> JobState | None:
    """Return the finished job with the best objective; None where none has finished, or there are several goals."""
    scored = [s for s in states if s.status == "finished" and s.objective is not None]
    if not scored or maximise is None:
        return None
    return (max if maximise else min)(scored, key=lambda s: s.objective or 0.0)


def find_sweep(sweeps: Path, name: str) -> SweepFolder:
    """Return the folder of a sweep by its name, or by the beginning of a single one's."""
    known = sorted(p.parent.name for p in sweeps.glob(f"*/{SWEEP}"))
    meant = [name] if name in known else [other for other in known if other.startswith(name)]
    if len(meant) == 1:
        return SweepFolder(sweeps / meant[0])
    if meant:
        raise ConfigError(
            f"'{name}' is the beginning of {len(meant)} sweeps: {', '.join(meant)}", fix="give more of it"
        )
    if not known:
        raise ConfigError(f"There is no sweep '{name}', nor any other, in {sweeps}.", fix=START)
    error = unknown_name("sweep", name, known)
    error.fix = error.fix or "agnews sweeps list"
    raise error


def snapshot_config(source: Path, target: Path) -> None:
    """Copy a configuration folder; ``target`` is either complete or not there."""
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".conf."))
    shutil.copytree(source, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    temporary.chmod(0o755)
    temporary.rename(target)


def config_digest(folders: Sequence[Path]) -> str:
    """Return the hash of all YAML files below some folders: names and contents."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*.yaml") if p.is_file()):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


_NOT_IDENTITY = re.compile(
    r"^[+~]{0,2}(sweep\.|paths\.|hydra\.mode|hydra\.sweep|hydra\.verbose|hydra[./]launcher"
    r"|hydra\.sweeper\.(n_trials|n_jobs|max_failure_rate|plots))"
)
"""Overrides that change how a sweep is carried out and not its jobs: with others the same sweep goes on."""


def identity(words: Sequence[str]) -> list[str]:
    """Return the words of a command that say what its sweep is."""
    return [w for w in words if not _NOT_IDENTITY.match(w)]


def folder_names(sweeps: Path, label: str, name: str | None, words: Sequence[str], digest: str) -> list[SweepFolder]:
    """Return the folders that belong to a command, oldest first, and after them the next that is free.

    A sweep whose data or code have changed is not gone on with: the command gets a folder beside it, so that no table
    mixes what cannot be compared, and nothing is lost.

    ``label`` begins a name that we make up where the command gives none; ``digest`` is the configuration's.
    """
    content = json.dumps({"words": identity(words), "conf": digest, "version": __version__})
    if name:
        check_file_name("sweep.name", name, [path.name for path in sweeps.glob("*")])
    base = name or f"{slug(label)}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    found = []
    for number in range(1, 1000):
        folder = SweepFolder(sweeps / (base if number == 1 else f"{base}-{number}"))
        found.append(folder)
        info = folder.info()
        if not info:
            return found
        if name and identity(info.get("words") or []) != identity(words):
            raise ConfigError(
                f"sweep.name={base} belongs to another command: {info.get('command')}",
                fix=f"choose another sweep.name, or go on with that one: sweep.resume={base}",
            )
    raise ConfigError(f"There are 999 sweeps named {base}.", fix="delete some, or set sweep.name")


def slug(text: str) -> str:
    """Return a short text that is safe as a file name, also with something after it."""
    made = re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:48].strip("-.")
    return "sweep" if wrong_file_name(made) else made

"""The sweep's folder: its identity, its copy of the configuration, its lock, and its jobs' states.

``outputs/sweeps/<name>/`` holds sweep.json, conf/ (the configuration as it was at the start), a run folder a job
(0/, 1/, ...), jobs/ (states), logs/, and at the end jobs.csv, aggregate.csv and aggregate.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp import __version__
from agnews_exp.config.errors import ConfigError, unknown_name
from agnews_exp.config.locations import CHECKPOINTS, RESUME_FILE, run_command
from agnews_exp.sweeps.jobs import SETTLED, JobState, log_path, report_path, state_path
from agnews_exp.sweeps.work_lock import WorkLock
from agnews_exp.tracking import record

SWEEP, CONF, BEST = "sweep.json", "conf", "best.json"
START = f"start one: {run_command()} -m model=linear_svc,logreg data_fraction=0.25,1.0"


class SweepFolder:
    """One sweep's folder.

    Args:
        path: The folder; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = WorkLock(
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
        """The copied configuration folders, the main one first."""
        return [self.snapshot(n) for n in range(int(self.info().get("configs", 1)))]

    def info(self) -> dict[str, Any]:
        """Return the content of sweep.json, empty when there is none."""
        return record.read_json(self.path / SWEEP) or {}

    def update(self, **changes: Any) -> None:
        """Change some keys of sweep.json."""
        record.write_json(self.path / SWEEP, self.info() | changes)

    def acquire(self) -> None:
        """Take the sweep for this process and its children.

        The job server and the jobs inherit the lock, so it is free only when the last of them is gone.

        Raises:
            ConfigError: Another process works on this sweep.
        """
        self._lock.acquire()

    @property
    def lock(self) -> int | None:
        """The lock's file descriptor, for child processes; None while it is not held."""
        return self._lock.descriptor

    @property
    def active(self) -> bool:
        """Whether a process works on this sweep now."""
        return self._lock.active

    def release(self) -> None:
        """Give the sweep back."""
        self._lock.release()

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
        """Remove what an unfinished attempt left in the job's folder, unless it can go on; its log is kept."""
        if self.has_checkpoint(num):
            (self.path / str(num) / record.STATUS).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.path / str(num), ignore_errors=True)
        report_path(self.path, num).unlink(missing_ok=True)
        log_path(self.path, num).parent.mkdir(exist_ok=True)


def best_job(folder: SweepFolder, states: Sequence[JobState]) -> JobState | None:
    """Return the finished job with the best objective; None when none has finished, or there are several goals."""
    maximise = folder.info().get("maximise")
    scored = [s for s in states if s.status == "finished" and s.objective is not None]
    if not scored or maximise is None:
        return None
    return (max if maximise else min)(scored, key=lambda s: s.objective or 0.0)


def find_sweep(sweeps: Path, name: str) -> SweepFolder:
    """Return a sweep's folder.

    Args:
        sweeps: Folder of all sweeps.
        name: The sweep's name, or the beginning of a single one's.

    Raises:
        ConfigError: There is none of that name.
    """
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
    r"^[+~]{0,2}(sweep\.|hydra\.mode|hydra\.sweep|hydra\.verbose|hydra[./]launcher"
    r"|hydra\.sweeper\.(n_trials|n_jobs|max_failure_rate|plots))"
)
"""Overrides that say how a sweep is worked off, not what it is: changing them goes on with the same sweep."""


def identity(words: Sequence[str], digest: str) -> str:
    """Return 8 hex digits: the same command on the same configuration is the same sweep."""
    kept = [w for w in words if not _NOT_IDENTITY.match(w)]
    content = json.dumps({"words": kept, "conf": digest, "version": __version__})
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def choose_folder(
    sweeps: Path, label: str, settings: Mapping[str, Any], words: Sequence[str], digest: str, *, force: bool
) -> SweepFolder:
    """Return the folder that this command works in: a new one, or the one that it goes on with.

    Args:
        sweeps: Folder of all sweeps.
        label: Readable part of a name that we make up.
        settings: The ``sweep`` group; its ``name`` wins.
        words: The command's overrides.
        digest: :func:`config_digest` of the configuration.
        force: Do not go on with a finished sweep: take the next free name.

    Raises:
        ConfigError: ``sweep.name`` is taken by another command.
    """
    key = identity(words, digest)
    base = settings.get("name") or f"{slug(label)}-{key}"
    for number in range(1, 1000):
        folder = SweepFolder(sweeps / (base if number == 1 else f"{base}-{number}"))
        info = folder.info()
        if not info:
            return folder
        if settings.get("name") and info.get("identity") != identity(words, str(info.get("conf"))):
            raise ConfigError(
                f"sweep.name={base} belongs to another command: {info.get('command')}",
                fix=f"choose another sweep.name, or go on with that one: sweep.resume={base}",
            )
        if not (force and info.get("status") == "finished"):
            return folder
    raise ConfigError(f"There are 999 sweeps named {base}.", fix="delete some, or set sweep.name")


def slug(text: str) -> str:
    """Return a short text that is safe as a file name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:48] or "sweep"

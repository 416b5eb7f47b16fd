"""One call of a sweep from start to end: folder and lock, parent run, states of the jobs, results, right statuses."""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omegaconf import DictConfig

from agnews_exp import __version__
from agnews_exp.config.compose import quoted
from agnews_exp.core.errors import AgnewsError, refuse_password
from agnews_exp.core.paths import config_folder, run_command
from agnews_exp.core.process import LESS_MEMORY, born, check_terminated, is_stop
from agnews_exp.core.processes import WarmProcesses
from agnews_exp.sweeps import state as job_files
from agnews_exp.sweeps.clusters import wait_until_gone
from agnews_exp.sweeps.job import identify_jobs
from agnews_exp.sweeps.replay import config_words
from agnews_exp.sweeps.results import LiveTable
from agnews_exp.sweeps.state import (
    Job,
    JobState,
    SweepFolder,
    clean_words,
    command_words,
    config_digest,
    config_sources,
    folder_names,
    snapshot_config,
    task_plain,
)
from agnews_exp.tracking import record as job_report
from agnews_exp.tracking.environment import describe_environment, other_source
from agnews_exp.tracking.mlflow_mirror import SWEEP_RESULTS
from agnews_exp.tracking.worker import Mirroring

log = logging.getLogger(__name__)

_CONTROLLER = ("hydra.mode", "hydra.sweep.", "hydra/sweeper", "hydra.sweeper", "hydra/launcher", "hydra.launcher")
"""Hydra overrides of the sweep's command that mean nothing to a single job."""


class SweepFailed(AgnewsError):
    """Some jobs of a sweep failed; the others are done."""

    exit_code = 1


class SweepSession:
    """One call of a sweep (``grid`` or ``search``) over override keys that vary; use as a context manager.

    ``label`` begins the name of a sweep that has none; ``maximise`` is None when there are several objectives;
    ``objective`` names the metric where it is not ``evaluation.primary``.
    """

    def __init__(
        self,
        config: DictConfig,
        label: str,
        swept: Sequence[str],
        *,
        kind: str,
        maximise: bool | None = True,
        objective: str | None = None,
    ) -> None:
        self._config, self._label, self._kind = config, label, kind
        self.maximise, self.swept, self._objective = maximise, list(swept), objective
        self.plain = task_plain(config)
        self.words = command_words(config)
        refuse_password("tracking.uri", self.plain["tracking"]["uri"])
        self._sources = config_sources(config)
        self._digest = config_digest(self._sources)
        self.sweeps_dir = Path(self.plain["paths"]["output_dir"]) / "sweeps"
        self.table: LiveTable | None = None
        self.ended_now: list[JobState] = []
        self.folder: SweepFolder
        self._mirroring: Mirroring

    def __enter__(self) -> Self:
        name = self.plain["sweep"]["name"]
        *earlier, free = folder_names(self.sweeps_dir, self._label, name, self.words, self._digest)
        last = earlier[-1] if earlier else free
        anew = bool(self.plain["force"]) and last.info().get("status") == "finished"
        self._take(free if anew else last)
        if (reason := self._what_changed()) is not None:
            self.folder.lock.release()
            self._take(free)
            log.warning(
                "Since the sweep '%s' ran, %s. The jobs run anew in '%s'; the old ones stay where they are.",
                last.name, reason, free.name,
            )  # fmt: skip
        self._mirroring = Mirroring(self.folder.path, self.plain)
        return self

    def _take(self, folder: SweepFolder) -> None:
        """Lock a folder, and describe the sweep there or settle the jobs that an earlier call left running."""
        self.folder = folder
        folder.lock.acquire()
        try:
            info = folder.info()
            if not info:
                self._describe()
            elif info.get("conf") != self._digest and info.get("version") == __version__:
                log.warning(
                    "conf/ has changed since the sweep '%s' began; its jobs go on with the copy in %s. "
                    "Another sweep.name starts anew with the changed one.",
                    folder.name, folder.snapshot(0),
                )  # fmt: skip
            self._recover()
        except BaseException:
            folder.lock.release()
            raise

    def _describe(self) -> None:
        for number, source in enumerate(self._sources):
            snapshot_config(source, self.folder.snapshot(number))
        self.folder.update(
            name=self.folder.name,
            kind=self._kind,
            conf=self._digest,
            configs=len(self._sources),
            words=self.words,
            swept=self.swept,
            command=f"{run_command()} -m {shlex.join(self.words)}",
            primary=self._objective or self.plain["evaluation"]["primary"],
            maximise=self.maximise,
            version=__version__,
            created=_now(),
            status="running",
        )

    def _what_changed(self) -> str | None:
        """Say what makes results of an earlier call of this sweep outdated: its version, its data or its code."""
        version = self.folder.info().get("version")
        if version != __version__:
            return f"the version of this package has changed from {version} to {__version__}"
        stored = {
            state.num: (state, run.result() or {})
            for state in self.folder.states()
            if state.status == "finished" and (run := self.folder.run_of(state)) is not None
        }
        if not stored:
            return None
        now = describe_environment(Path(self.plain["paths"]["root_dir"]))
        for state, _ in stored.values():
            place = Path(os.path.normpath(self.folder.path / str(state.run)))
            if other_source(job_report.read_json(place / job_report.ENVIRONMENT) or {}, now):
                return "the source code of this package has changed"
        # Numbers name no data and no code, so one job stands for all that differ in nothing else.
        alike = {_without_numbers(state.overrides): num for num, (state, _) in reversed(stored.items())}
        words = {num: self.job_words(Job(num, stored[num][0].overrides)) for num in alike.values()}
        today = self.identify(words)
        for num in alike.values():
            found, result = today.get(num), stored[num][1]
            if found is None:
                log.warning("Whether data or code of job %d have changed since could not be found out.", num)
            elif found["data"] != result["data"]["checksum"]:
                return "the data have changed"
            elif found["fingerprint"] != result["fingerprint"]:
                return "files or code that the jobs use have changed"
        return None

    def identify(self, words: Mapping[int, Sequence[str]]) -> dict[int, dict[str, str]]:
        """Return, by number, the ``fingerprint`` that jobs would have now, and the checksum of their ``data``."""
        answer = self.folder.path / "identities.json"
        output = job_files.log_path(self.folder.path, 0).with_name("identities.log")
        with WarmProcesses() as processes:
            processes.start(identify_jobs, (dict(words), answer), log=output).wait()
        found = job_report.read_json(answer) or {}
        answer.unlink(missing_ok=True)
        return {int(num): identity for num, identity in found.items()}

    @property
    def foreign(self) -> bool:
        """Whether the sweep's copy of the configuration may be somebody else's, so that every job's is looked at."""
        digest = config_digest(self.folder.snapshots)
        own = config_digest([config_folder(), *(s for s in self._sources[1:] if self.sweeps_dir not in s.parents)])
        given = not any(self.sweeps_dir.resolve() in source.resolve().parents for source in self._sources)
        return digest not in ({own, self._digest} if given else {own})

    @property
    def locks(self) -> list[int]:
        """File descriptors that the jobs hold, too: the sweep is free only when the last of them is gone."""
        return [] if self.folder.lock.descriptor is None else [self.folder.lock.descriptor]

    def _recover(self) -> None:
        """Settle jobs that an earlier call left as running: their records say whether they finished before it died."""
        for state in self.folder.states():
            if state.status == "running":
                wait_until_gone(self.folder, state.num)
                self.folder.store(self._judge_orphan(state))

    def _judge_orphan(self, state: JobState) -> JobState:
        code = state.exit_code if state.exit_code is not None else 0
        job = Job(state.num, state.overrides)
        judged = job_files.judge(job, state, self.folder.path, code=code, timed_out=None, objective=self._objective)
        if judged.status in job_files.SETTLED:
            return judged
        return replace(judged, status="killed", reason="the sweep was interrupted", traceback=None)

    def plan(self, overrides: Sequence[Sequence[str]]) -> list[Job]:
        """Number the jobs of a grid and return those that still have to run."""
        pending = []
        for num, words in enumerate(overrides):
            job = Job(num, clean_words(words))
            state = self.folder.state(num)
            if state is None:
                self.folder.store(JobState(num, job.overrides))
            if not self.folder.is_settled(state):
                pending.append(job)
        return pending

    def begin(self, total: int) -> LiveTable:
        """Start the mirror in MLflow and return the table to show; call it when there is something to run."""
        tags = {"sweep.command": str(self.folder.info().get("command", ""))[:5000], "sweep.kind": self._kind}
        experiment = self.plain["tracking"]["experiment"]
        tracking = {"experiment": experiment, "host": platform.node(), "pid": os.getpid(), "born": born(), "tags": tags}
        self.folder.update(status="running", total=total, resumed=_now(), tracking=tracking)
        self._mirroring.start()
        settled = [s for s in self.folder.states() if self.folder.is_settled(s)]
        if settled:
            log.info("%s: %d of %d jobs are done already", self.folder.name, len(settled), total)
        self.table = LiveTable(self.folder.name, total, settled, list(self.swept), maximise=self.maximise)
        return self.table

    def environment(self, job: Job) -> dict[str, str]:
        """Return the environment that makes a run a job of this sweep."""
        return {job_report.JOB_REPORT: str(job_files.report_path(self.folder.path, job.num)), **dict(job.env)}

    def job_words(self, job: Job, more: Sequence[str] = ()) -> list[str]:
        """Return Hydra's words for a job's own process, composed from the sweep's copy of the configuration."""
        if self.folder.has_checkpoint(job.num) and not any(w.startswith("resume=") for w in job.overrides):
            more = [*more, "resume=auto"]
        passed = [w for w in self._config.hydra.overrides.hydra if not w.lstrip("+~").startswith(_CONTROLLER)]
        return [
            *config_words(self.folder.snapshots),
            *job.overrides,
            *passed,
            *more,
            "hydra.mode=RUN",
            f"hydra.run.dir={quoted(str(self.folder.path / str(job.num)))}",
        ]

    def started(self, job: Job) -> None:
        """Note that an attempt of a job begins, in a clean folder.

        Raises:
            Terminated: SIGTERM asked this process to end while nobody could hear it.
        """
        check_terminated()
        before = self.folder.state(job.num) or JobState(job.num, job.overrides)
        self.folder.clear(job.num)
        state = JobState(job.num, job.overrides, status="running", attempts=before.attempts + 1)
        self.folder.store(state)
        if self.table is not None:
            self.table.started(state)

    def ended(
        self,
        job: Job,
        *,
        code: int,
        seconds: float | None,
        max_rss_mb: float | None = None,
        timed_out: float | None = None,
    ) -> JobState:
        """Judge an attempt that has ended, store its state, and close its record where the job could not."""
        before = self.folder.state(job.num) or JobState(job.num, job.overrides)
        state = job_files.judge(
            job, before, self.folder.path, code=code, timed_out=timed_out, objective=self._objective
        )
        state = replace(state, seconds=None if seconds is None else round(seconds, 2), max_rss_mb=max_rss_mb)
        self.folder.store(state)
        return state

    def settled(self, state: JobState) -> None:
        """Show a job's last state in this call (after any retries)."""
        self.ended_now.append(state)
        if self.table is not None:
            self.table.ended(state)

    def finish(self, total: int, report: Callable[[SweepFolder], Any] | None = None, *, accept: bool = False) -> None:
        """Write and log the results, close the sweep's run in MLflow, and show the end.

        ``report`` writes more result files (a search's plots); with ``accept`` failed jobs are part of a good end (a
        search's, as long as they are few).
        """
        from agnews_exp.sweeps.results import print_failures, print_results, write_results

        states = self.folder.states()
        settled = [s for s in states if self.folder.is_settled(s)]
        complete = accept or len(settled) >= total
        results = write_results(self.folder, states)
        if report is not None and (more := report(self.folder)):
            results.add(more)
        names = [os.path.relpath(path, self.folder.path) for path in results.artifacts]
        shown = {"note": results.note, "metrics": dict(results.metrics), "artifacts": names}
        job_report.write_json(self.folder.path / SWEEP_RESULTS, shown)  # MLflow shows it
        self.folder.update(status="finished" if complete else "failed", ended=_now())
        self._mirroring.finish()
        print_results(self.folder, results)
        unsettled = [s for s in states if not self.folder.is_settled(s)]
        if unsettled:
            print_failures(self.folder, unsettled)
        if not complete:
            failed = sum(s.status == "failed" for s in unsettled)
            not_run = total - len(settled) - failed
            left = f", {not_run} did not run" if not_run else ""
            raise SweepFailed(
                f"{failed} of {total} jobs failed{left}.",
                fix=f"{_remedy(unsettled)}; the same command runs only what is missing "
                f"(or: {run_command()} -m sweep.resume={self.folder.name})",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, SweepFailed):
                return
            killed = is_stop(error)
            for state in self.folder.states():
                if state.status == "running":
                    self.folder.store(self._judge_orphan(state))
            self.folder.update(status="killed" if killed else "failed", ended=_now())
            self._mirroring.finish(stopped=killed)
        finally:
            self.folder.lock.release()


def _without_numbers(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if not re.fullmatch(r"[^=]*=[-+.0-9e]*", word))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _remedy(unsettled: Sequence[JobState]) -> str:
    """Say what to do about jobs that failed."""
    killed = any(state.was_killed for state in unsettled)
    return f"free memory or ask for less ({LESS_MEMORY})" if killed else "mend the cause"

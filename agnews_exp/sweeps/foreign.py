"""Our sweeps through other launchers: Hydra's basic one (in this process), joblib, submitit, ray.

They take a batch; those of ours (:class:`EachEnd`) tell every job's end as it comes, the others when all of it is done.
Resuming, nested MLflow runs, the failure table and aggregation are the same; timeouts, retries and GPU slots are the
launcher's own business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.config.compose import quoted
from agnews_exp.config.errors import AgnewsError
from agnews_exp.sweeps.composing import SweepConfigLoader
from agnews_exp.sweeps.jobs import BAD_INPUT, Job
from agnews_exp.sweeps.process_launcher import Source
from agnews_exp.sweeps.session import SweepSession
from agnews_exp.tracking import record
from agnews_exp.tracking.store import is_local, tracking_uri

log = logging.getLogger(__name__)


@runtime_checkable
class EachEnd(Protocol):
    """A launcher that tells the end of every job as it comes."""

    def launch_each(
        self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
    ) -> Generator[tuple[int, JobReturn], None, None]:
        """Run jobs and yield each one's place in the list and its end."""


def work_through(
    launcher: Any, session: SweepSession, source: Source, config: DictConfig, context: HydraContext, *, batch: int
) -> None:
    """Run jobs in batches until the source has none left.

    Args:
        launcher: Any Hydra launcher.
        session: The sweep.
        source: Where jobs come from.
        config: The sweep's composed config.
        context: Hydra's context, whose configuration is switched to the sweep's copy.
        batch: How many jobs are handed over at once.
    """
    use_snapshot(context, session)
    in_process = isinstance(launcher, BasicLauncher)
    if in_process:
        batch = 1  # it works one by one anyway, and so every end is seen as it comes
        if isinstance(context.config_loader, ConfigLoaderImpl):
            context.config_loader = SweepConfigLoader(context.config_loader)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(session.folder.path)
    if getattr(launcher, "spans_machines", False):
        _warn_of_sqlite(session)
    with session.begin(source.total, tracked_apart=in_process):
        while True:
            jobs = [job for _ in range(batch) if (job := source.next()) is not None]
            if not jobs:
                return
            _run_batch(launcher, session, source, config, context, jobs)


def _warn_of_sqlite(session: SweepSession) -> None:
    tracking, paths = session.plain["tracking"], session.plain["paths"]
    uri = tracking_uri(Path(paths["mlruns_dir"]), tracking["uri"])
    if tracking["enabled"] and is_local(uri):
        log.warning(
            "Jobs on several machines will write to one sqlite file, which network file systems do not protect: %s. "
            "Use a server: tracking.uri=http://HOST:5000 (or afterwards: agnews sync).", uri,
        )  # fmt: skip


def _run_batch(
    launcher: Any, session: SweepSession, source: Source, config: DictConfig, context: HydraContext, jobs: list[Job]
) -> None:
    valid: list[tuple[Job, list[str]]] = []
    for job in jobs:
        session.started(job)
        words = _words(session, job)
        try:
            if len(jobs) > 1:  # one that cannot be composed must not take the others with it
                context.config_loader.load_sweep_config(config, words)
        except (HydraException, OmegaConfBaseException) as error:
            _settle(session, source, job, BAD_INPUT, _first_line(error), None)
        else:
            valid.append((job, words))
    if not valid:
        return
    left = dict(enumerate(job for job, _ in valid))
    try:
        with closing(_ends(launcher, valid)) as ends:
            for place, answer, seconds in ends:
                raised = answer._return_value if answer.status is JobStatus.FAILED else None
                code = 0 if raised is None else raised.exit_code if isinstance(raised, AgnewsError) else 1
                reason = None if raised is None else str(raised) or type(raised).__name__
                _settle(session, source, left.pop(place), code, reason, seconds)
    except (HydraException, OmegaConfBaseException) as error:
        if len(valid) > 1:
            raise
        _settle(session, source, valid[0][0], BAD_INPUT, _first_line(error), None)
    except _GaveUp as failure:
        log.debug("launcher failure", exc_info=True)
        for job in left.values():
            _settle(session, source, job, 1, str(failure), None)


class _GaveUp(Exception):
    """A launcher failed as a whole, such as joblib's when one of its workers dies."""


def _ends(
    launcher: Any, jobs: list[tuple[Job, list[str]]]
) -> Generator[tuple[int, JobReturn, float | None], None, None]:
    """Yield the place, the answer and, where it is not in the record, the seconds of every job."""
    words = [words for _, words in jobs]
    start = time.monotonic()
    try:
        if isinstance(launcher, EachEnd):
            with closing(launcher.launch_each(words, [job.num for job, _ in jobs])) as ends:
                for place, answer in ends:
                    yield place, answer, None
            return
        answers = launcher.launch(words, initial_job_idx=jobs[0][0].num)
    except (AgnewsError, HydraException, OmegaConfBaseException):
        raise
    except Exception as error:
        raise _GaveUp(f"{type(launcher).__name__} gave up: {_first_line(error)}") from error
    seconds = time.monotonic() - start if len(jobs) == 1 else None
    yield from ((place, answer, seconds) for place, answer in enumerate(answers))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _settle(
    session: SweepSession, source: Source, job: Job, code: int, reason: str | None, seconds: float | None
) -> None:
    path = session.folder.path / "logs" / f"{job.num}.log"
    if reason is not None:
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"error: {reason}\n")
    state = session.ended(job, code=code, seconds=_recorded_seconds(session, job) if seconds is None else seconds)
    session.settled(state)
    source.done(state)


def _recorded_seconds(session: SweepSession, job: Job) -> float | None:
    """Return the wall time between the first and the last entry of a job's record."""
    status = record.read_json(session.folder.path / str(job.num) / record.STATUS) or {}
    if status.get("status") == "running":  # it died: nobody wrote when
        return None
    try:
        started, ended = (datetime.fromisoformat(status[key]) for key in ("started", "updated"))
    except (KeyError, TypeError):
        return None
    return (ended - started).total_seconds()


def _words(session: SweepSession, job: Job) -> list[str]:
    """Return a job's overrides with its folder and environment, which the launcher carries to wherever it runs."""
    environment = session.environment(job)
    goes_on = session.folder.has_checkpoint(job.num) and not any(w.startswith("resume=") for w in job.overrides)
    return [
        *job.overrides,
        *(["resume=auto"] if goes_on else []),
        f"hydra.sweep.dir={quoted(str(session.folder.path))}",
        f"hydra.sweep.subdir={quoted(str(job.num))}",
        *(f"+hydra.job.env_set.{name}={quoted(value)}" for name, value in environment.items()),
    ]


def use_snapshot(context: HydraContext, session: SweepSession) -> None:
    """Let this process and what it hands on compose from the sweep's copy of the configuration."""
    loader = context.config_loader
    if not isinstance(loader, ConfigLoaderImpl):
        return
    main, *extra = session.snapshots
    left = list(extra)
    for entry in loader.config_search_path.get_path():
        if entry.provider == "main":
            entry.path = f"file://{main}"
        elif entry.provider == "command-line" and left:
            entry.path = f"file://{left.pop(0)}"
    loader.repository = ConfigRepository(config_search_path=loader.config_search_path)

"""Our sweeps through other launchers: Hydra's basic one (in this process), joblib, submitit, ray.

They take a batch and answer when all of it is done. Resuming, nested MLflow runs, the failure table and aggregation
are the same; timeouts, retries and GPU slots are the launcher's own business.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.config.errors import AgnewsError
from agnews_exp.sweeps.command import quoted
from agnews_exp.sweeps.jobs import BAD_INPUT, Job
from agnews_exp.sweeps.process_launcher import Source
from agnews_exp.sweeps.session import SweepSession

log = logging.getLogger(__name__)


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
    if isinstance(launcher, BasicLauncher):
        batch = 1  # it works one by one anyway, and so every end is seen as it comes
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(session.folder.path)
    with session.begin(source.total):
        while True:
            jobs = [job for _ in range(batch) if (job := source.next()) is not None]
            if not jobs:
                return
            _run_batch(launcher, session, source, config, context, jobs)


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
    start = time.monotonic()
    try:
        returns = launcher.launch([words for _, words in valid], initial_job_idx=valid[0][0].num)
    except (HydraException, OmegaConfBaseException) as error:
        if len(valid) > 1:
            raise
        _settle(session, source, valid[0][0], BAD_INPUT, _first_line(error), None)
        return
    seconds = (time.monotonic() - start) / len(valid)
    for (job, _), answer in zip(valid, returns, strict=True):
        raised = answer._return_value if isinstance(answer, JobReturn) and answer.status is JobStatus.FAILED else None
        code = 0 if raised is None else raised.exit_code if isinstance(raised, AgnewsError) else 1
        _settle(session, source, job, code, None if raised is None else str(raised) or type(raised).__name__, seconds)


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
    state = session.ended(job, code=code, seconds=seconds)
    session.settled(state)
    source.done(state)


def _words(session: SweepSession, job: Job) -> list[str]:
    """Return a job's overrides with its folder and environment, which the launcher carries to wherever it runs."""
    environment = session.environment(job)
    return [
        *job.overrides,
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

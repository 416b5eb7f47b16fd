"""Our sweeps through other launchers: Hydra's basic one (in this process), joblib, submitit, ray.

They take a batch; those of ours (:class:`EachEnd`) tell every job's end as it comes, the others when all of it is done.
Resuming, nested MLflow runs, the failure table and aggregation are the same; timeouts, retries and GPU slots are the
launcher's own business.
"""

from __future__ import annotations

import copy
import logging
import os
import platform
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.config.compose import quoted
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError
from agnews_exp.core.paths import CHECKPOINTS, RESUME_FILE
from agnews_exp.sweeps.processes import Source
from agnews_exp.sweeps.session import SweepSession
from agnews_exp.sweeps.state import BAD_INPUT, Job, SlurmQueue, note_path
from agnews_exp.tracking import record
from agnews_exp.tracking.store import is_local, tracking_uri

_POLL_SECONDS = 0.5
_CANCEL_SECONDS = 20.0
_FILE_SECONDS = 15.0
"""How long a network file system may take to show a result that another machine has written."""
_INIT_PARAMETERS = ("max_num_timeout", "python")
_COMMON_PARAMETERS = (
    "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout",
)  # fmt: skip


class JobLost(Exception):
    """A job ended without a result: killed, timed out, cancelled, or its machine failed."""


class Task:
    """What submitit pickles and calls on the job's machine: the plugin's own call, resumable.

    Args:
        plugin: The plugin's launcher, set up.
    """

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin

    def __call__(self, overrides: list[str], folder: str, num: int, state: Any) -> Any:
        """Run a job.

        Args:
            overrides: The job's overrides.
            folder: The job's run folder.
            num: Hydra's job number.
            state: Hydra's singletons.

        Returns:
            Hydra's JobReturn.
        """
        return self._plugin(overrides, "hydra.sweep.dir", num, f"job_id_for_{num}", state)

    def checkpoint(self, overrides: list[str], folder: str, num: int, state: Any) -> Any:
        """Say how a preempted or timed-out job is submitted again: it goes on at its last checkpoint."""
        import submitit

        saved = (Path(folder) / CHECKPOINTS / RESUME_FILE).is_file()
        known = any(word.startswith("resume=") for word in overrides)
        words = [*overrides, "resume=auto"] if saved and not known else overrides
        return submitit.helpers.DelayedSubmission(self, words, folder, num, state)


class SubmititLauncher(Launcher):
    """Submits jobs through submitit.

    Args:
        cluster: ``slurm``, or ``local`` for processes on this machine under submitit's rules.
        n_jobs: How many run at once with ``local`` (SLURM has ``array_parallelism``).
        submitit_folder: For submitit's pickles and logs; null is ``.submitit/%j`` in the sweep's folder.
        parameters: hydra-submitit-launcher's parameters, such as ``timeout_min`` or ``partition``.
    """

    def __init__(
        self, cluster: str, n_jobs: int | None = None, submitit_folder: str | None = None, **parameters: Any
    ) -> None:
        if cluster not in ("slurm", "local"):
            raise ConfigError(f"hydra.launcher.cluster={cluster!r}\n  allowed: slurm, local")
        if n_jobs is not None and (not isinstance(n_jobs, int) or n_jobs < 1):
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs!r}: a whole number of at least 1 is needed, or null.")
        self._cluster, self._n_jobs, self._folder = cluster, n_jobs, submitit_folder
        self._parameters = {
            k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in parameters.items()
        }
        self.spans_machines = cluster == "slurm"
        self._config: DictConfig | None = None
        self._plugin: Any = None
        self._queue = SlurmQueue()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Set up the plugin.

        Raises:
            MissingDependencyError: hydra-submitit-launcher is not installed.
        """
        try:
            from hydra_plugins.hydra_submitit_launcher import submitit_launcher as plugin
        except ImportError as error:
            raise MissingDependencyError(
                f"hydra/launcher=submitit_{self._cluster} needs hydra-submitit-launcher.",
                fix="pip install 'agnews-exp[submitit]'",
            ) from error
        self._config = config
        self._plugin = {"slurm": plugin.SlurmLauncher, "local": plugin.LocalLauncher}[self._cluster](**self._parameters)
        self._plugin.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs for another sweeper than ours; returns when all have ended."""
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        returns = dict(self.launch_each(job_overrides, numbers))
        return [returns[place] for place in range(len(job_overrides))]

    def launch_each(
        self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
    ) -> Generator[tuple[int, JobReturn], None, None]:
        """Submit jobs and yield each one's place in the list and its end, in the order of the ends.

        Args:
            job_overrides: Every job's overrides.
            numbers: Every job's number, which is its folder's name in the sweep's folder.

        Raises:
            ConfigError: submitit cannot submit: no SLURM here, or a parameter that it does not take.
        """
        assert self._config is not None
        sweep = Path(str(self._config.hydra.sweep.dir))
        calls = [self._call(sweep, words, num) for words, num in zip(job_overrides, numbers, strict=True)]
        limit = self._n_jobs or len(calls) if self._cluster == "local" else len(calls)
        waiting = list(range(len(calls)))
        out: dict[int, Any] = {}
        try:
            executor = self._executor(sweep)
            while waiting or out:
                if waiting and len(out) < limit:
                    places, waiting = waiting[: limit - len(out)], waiting[limit - len(out) :]
                    for place, job in zip(places, self._submit(executor, [calls[p] for p in places]), strict=True):
                        out[place] = job
                        self._note(sweep, numbers[place], job)
                for place in [p for p, job in out.items() if self._has_ended(job)]:
                    answer = _answer(out.pop(place), self._cluster)
                    note_path(sweep, numbers[place]).unlink(missing_ok=True)
                    yield place, answer
                time.sleep(_POLL_SECONDS if out else 0)
        finally:
            _cancel(list(out.values()))
            for place in out:
                note_path(sweep, numbers[place]).unlink(missing_ok=True)

    def _call(self, sweep: Path, words: Sequence[str], num: int) -> tuple[Any, ...]:
        from hydra.core.singleton import Singleton

        return list(words), str(sweep / str(num)), num, Singleton.get_state()

    def _executor(self, sweep: Path) -> Any:
        import submitit

        # Each question to sacct that fails (on a cluster without accounting all of them) would be three lines.
        logging.getLogger("submitit").setLevel(logging.ERROR)
        folder = self._folder or str(sweep / ".submitit" / "%j")
        first = {f"{self._cluster}_{k}": self._parameters[k] for k in _INIT_PARAMETERS if k in self._parameters}
        rest = {
            name if name in _COMMON_PARAMETERS else f"{self._cluster}_{name}": value
            for name, value in self._parameters.items()
            if name not in _INIT_PARAMETERS
        }
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self._cluster, **first)
            executor.update_parameters(**rest)
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise ConfigError(f"hydra/launcher=submitit_{self._cluster}: {error}") from error
        return executor

    def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        from submitit.core.utils import FailedJobError

        try:
            return list(executor.map_array(Task(self._plugin), *zip(*calls, strict=True)))
        except FailedJobError as error:
            raise ConfigError(f"{self._cluster} refused the jobs: {str(error).strip()}") from error

    def _has_ended(self, job: Any) -> bool:
        return bool(job.done()) or (self._cluster == "slurm" and self._queue.has_lost(str(job.job_id)))

    def _note(self, sweep: Path, num: int, job: Any) -> None:
        note = {"cluster": self._cluster, "id": str(job.job_id), "folder": str(job.paths.folder)}
        record.write_json(note_path(sweep, num), note | {"host": platform.node(), "submitted": time.time()})


def _answer(job: Any, cluster: str) -> JobReturn:
    reason = f"submitit job {job.job_id} ended without a result ({job.state})"
    result = job.paths.result_pickle
    deadline = time.monotonic() + (_FILE_SECONDS if cluster == "slurm" else 0)
    while not result.exists() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    # Without SLURM's accounting submitit would go on waiting for the file, so it is asked only when that is there.
    if result.exists():
        try:
            answer = job.results()[0]
        except Exception as error:  # outside of Hydra's own run, which returns its errors
            said = [line for line in str(error).splitlines() if "Error: " in line]
            reason = said[-1] if said else f"{reason}: {error}"
        else:
            assert isinstance(answer, JobReturn)
            return answer
    lost = JobLost(f"{reason}\nits output: {job.paths.stdout} and {job.paths.stderr}")
    return JobReturn(status=JobStatus.FAILED, _return_value=lost)


def _cancel(jobs: Sequence[Any]) -> None:
    """Cancel jobs and wait a while for their ends."""
    for job in jobs:
        job.cancel(check=False)
    deadline = time.monotonic() + _CANCEL_SECONDS
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(_POLL_SECONDS)


_PASSED_ON = "AGNEWS_"


class InFolder:
    """Hydra's task, run in the folder that the sweep was started in where the job's machine has it.

    Args:
        task: The task function.
        folder: The folder that relative paths of the configuration mean.
    """

    def __init__(self, task: TaskFunction, folder: Path) -> None:
        self._task, self._folder = task, folder

    def __call__(self, config: DictConfig) -> Any:
        """Run the task."""
        if self._folder.is_dir():
            os.chdir(self._folder)
        return self._task(config)


class RayLauncher(Launcher):
    """Runs jobs as tasks of a Ray cluster.

    Args:
        ray: ``init`` has the arguments of ``ray.init``, ``remote`` those of ``ray.remote``.
    """

    def __init__(self, ray: Mapping[str, Any]) -> None:
        plain: Any = OmegaConf.to_container(ray, resolve=True) if OmegaConf.is_config(ray) else dict(ray)
        self._init, self._remote = dict(plain.get("init") or {}), dict(plain.get("remote") or {})
        self.spans_machines = self._init.get("address") is not None
        self._config: DictConfig | None = None
        self._context: HydraContext | None = None
        self._task: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what a job needs.

        Raises:
            MissingDependencyError: hydra-ray-launcher is not installed.
        """
        try:
            import hydra_plugins.hydra_ray_launcher._launcher_util  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "hydra/launcher=ray needs hydra-ray-launcher.", fix="pip install 'agnews-exp[ray]'"
            ) from error
        self._context, self._config = hydra_context, config
        self._task = InFolder(task_function, Path.cwd())

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs for another sweeper than ours; returns when all have ended."""
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        returns = dict(self.launch_each(job_overrides, numbers))
        return [returns[place] for place in range(len(job_overrides))]

    def launch_each(
        self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
    ) -> Generator[tuple[int, JobReturn], None, None]:
        """Start jobs and yield each one's place in the list and its end, in the order of the ends.

        Args:
            job_overrides: Every job's overrides.
            numbers: Every job's number.

        Raises:
            ConfigError: The cluster cannot be reached, or an argument is not Ray's.
        """
        import ray
        from hydra.core.utils import setup_globals
        from ray.exceptions import RayError

        setup_globals()
        self._connect()
        out = {
            self._start(words, num): place
            for place, (words, num) in enumerate(zip(job_overrides, numbers, strict=True))
        }
        try:
            while out:
                (ended, *_), _ = ray.wait(list(out), num_returns=1)
                place = out.pop(ended)
                try:
                    answer = ray.get(ended)
                except RayError as error:
                    answer = JobReturn(status=JobStatus.FAILED, _return_value=error)
                yield place, answer
        finally:
            for left in out:
                ray.cancel(left, force=True)

    def _connect(self) -> None:
        import ray
        from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

        if ray.is_initialized():
            return
        try:
            start_ray(OmegaConf.create(self._init))
        except (ConnectionError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"hydra.launcher.ray.init={self._init}: {str(error).splitlines()[0]}",
                fix="start the cluster (ray start --head), or name one: hydra.launcher.ray.init.address=HOST:6379",
            ) from error

    def _start(self, words: Sequence[str], num: int) -> Any:
        from hydra.core.singleton import Singleton
        from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

        assert self._context is not None
        assert self._config is not None
        assert self._task is not None
        config = self._context.config_loader.load_sweep_config(self._config, list(words))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_id_for_{num}", num
            # A worker has its node's environment, not this one's.
            ours = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
            config.hydra.job.env_set = ours | dict(config.hydra.job.env_set)
        try:
            return launch_job_on_ray(
                self._context, OmegaConf.create(self._remote), config, self._task, Singleton.get_state()
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(f"hydra.launcher.ray.remote={self._remote}: {error}") from error


_OF_A_JOB = ("hydra.sweep.dir", "hydra.sweep.subdir")
_ENVIRONMENT = "hydra.job.env_set."
_MOST_KEPT = 64


class SweepConfigLoader(ConfigLoaderImpl):
    """Hydra's loader with a memory for what the jobs of a sweep share.

    Args:
        loader: The loader whose search path it takes over.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        super().__init__(loader.config_search_path)
        self.repository = loader.repository
        self._shared: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a job.

        Args:
            master_config: The sweep's own configuration.
            sweep_overrides: The job's overrides.
        """
        try:
            found = self._from_shared(master_config, sweep_overrides)
        except (HydraException, OmegaConfBaseException, ValueError):
            found = None  # Hydra's own way knows how to say what is wrong
        return found if found is not None else super().load_sweep_config(master_config, sweep_overrides)

    def _from_shared(self, master: DictConfig, words: list[str]) -> DictConfig | None:
        overrides = OverridesParser.create().parse_overrides(words)
        groups = [o for o in overrides if self._chooses(o)]
        values = [o for o in overrides if o not in groups]
        if not all(_sets_a_value(o) for o in values):
            return None
        key = tuple(str(o.input_line) for o in groups)
        if key not in self._shared:
            if len(self._shared) >= _MOST_KEPT:
                self._shared.clear()
            self._shared[key] = super().load_sweep_config(master, list(key))
        config = copy.deepcopy(self._shared[key])
        self._apply_overrides_to_config(values, config)
        _note_overrides(config, master, overrides)
        OmegaConf.copy_cache(from_config=master, to_config=config)
        return config

    def _chooses(self, override: Override) -> bool:
        plain = override.type is OverrideType.CHANGE and override.package is None
        return plain and not isinstance(override.value(), dict) and self.repository.group_exists(override.key_or_group)


def _sets_a_value(override: Override) -> bool:
    """Whether an override changes nothing but a value that is there, or the environment of the job."""
    key = override.key_or_group
    if override.package is not None or override.is_sweep_override() or isinstance(override.value(), dict):
        return False
    if override.type is OverrideType.ADD:
        return key.startswith(_ENVIRONMENT)
    of_hydra = key == "hydra" or key.startswith(("hydra.", "hydra/"))
    return override.type is OverrideType.CHANGE and (not of_hydra or key in _OF_A_JOB)


def _note_overrides(config: DictConfig, master: DictConfig, overrides: Sequence[Override]) -> None:
    """Write down the overrides where Hydra has them: its own, and the task's, in order."""
    of_hydra: Any = OmegaConf.to_container(master.hydra.overrides.hydra)
    config.hydra.overrides.hydra = of_hydra + [o.input_line for o in overrides if o.is_hydra_override()]
    config.hydra.overrides.task = [o.input_line for o in overrides if not o.is_hydra_override()]


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
    with session.begin(source.total):
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

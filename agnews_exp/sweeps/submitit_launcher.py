"""`hydra/launcher=submitit_slurm` and `submitit_local`: hydra-submitit-launcher's jobs, each end seen as it comes.

The plugin waits for all jobs in order and gives up at the first one without a result, while the others still run.
Here a job that died is a failed job; Ctrl-C cancels what is queued or runs; the scheduler's ids are kept in the
sweep's folder, so that a repeat of the command finds jobs that outlived it (:mod:`agnews_exp.sweeps.leftovers`).
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from agnews_exp.config.errors import ConfigError, MissingDependencyError
from agnews_exp.config.locations import CHECKPOINTS, RESUME_FILE
from agnews_exp.sweeps.leftovers import SlurmQueue, note_path
from agnews_exp.tracking import record

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

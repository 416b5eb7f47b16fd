"""`hydra/launcher=ray`: hydra-ray-launcher's jobs on a Ray cluster, each end seen as it comes.

The plugin gives up at the first job whose worker died, while the others still run. Here that is a failed job.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from agnews_exp.config.errors import ConfigError, MissingDependencyError

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

"""What our two sweepers share: Hydra's set-up, and handing jobs to whichever launcher was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from agnews_exp.sweeps.jobs import Job
    from agnews_exp.sweeps.process_launcher import Source
    from agnews_exp.sweeps.session import SweepSession


class SessionSweeper(Sweeper):
    """A sweeper whose jobs belong to a :class:`agnews_exp.sweeps.session.SweepSession`."""

    config: DictConfig
    hydra_context: HydraContext
    launcher: Any

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the command's config and build the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def resume_other(self) -> None:
        """Become the stored command of another sweep when ``sweep.resume`` asks for it; else return."""
        from agnews_exp.sweeps.resuming import redirect

        redirect(self.config)

    def work(self, session: SweepSession, source: Source, *, batch: int, check: Sequence[Job] = ()) -> None:
        """Run jobs until the source has none left.

        Args:
            session: The sweep.
            source: Where jobs come from.
            batch: How many jobs a launcher other than ours gets at once.
            check: Jobs of which at least one must have a valid configuration (hydra/launcher=process only).
        """
        from agnews_exp.sweeps.foreign import work_through
        from agnews_exp.sweeps.process_launcher import ProcessLauncher

        if isinstance(self.launcher, ProcessLauncher):
            self.launcher.work(session, source, check)
        else:
            work_through(self.launcher, session, source, self.config, self.hydra_context, batch=batch)

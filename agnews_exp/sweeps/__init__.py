"""Sweeps that survive: a process for every job, resuming, nested MLflow runs, searches, aggregation.

Hydra finds the plugins of this package through :func:`register_plugins`; importing this module costs nothing, and no
module of this package imports it.
"""

from __future__ import annotations


def register_plugins() -> None:
    """Make our launcher and sweepers known to Hydra; call it before ``hydra.main`` runs, as often as you like."""
    from hydra.core.plugins import Plugins

    from agnews_exp.sweeps.launcher import ProcessLauncher
    from agnews_exp.sweeps.sweepers import GridSweeper, SearchSweeper

    for plugin in (ProcessLauncher, GridSweeper, SearchSweeper):
        Plugins.instance().register(plugin)

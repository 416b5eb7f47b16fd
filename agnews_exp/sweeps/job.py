"""One job of a sweep, in a process of its own: `python -m agnews_exp.sweeps.job <Hydra's words>`.

The job server calls :func:`main` in a forked child, with the heavy imports already done, or starts this module in a
fresh interpreter. A transformer job that finds itself in a forked child replaces itself by a fresh interpreter:
torch's thread pools and CUDA must not be inherited, and Lightning's DDP repeats the command line it sees.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

MODULE = "agnews_exp.sweeps.job"


def fresh_command(words: Sequence[str]) -> list[str]:
    """Return the command line that runs a job in a fresh interpreter (-P: the current folder is not importable)."""
    return [sys.executable, "-P", "-m", MODULE, *words]


def main(*, forked: bool = False) -> None:
    """Run the job that ``sys.argv`` describes.

    Args:
        forked: Whether this process is a fork of the job server rather than a fresh interpreter.
    """
    import hydra

    from agnews_exp.config.entry import guarded
    from agnews_exp.config.locations import config_folder
    from agnews_exp.config.registration import register
    from agnews_exp.sweeps import register_plugins

    register()
    register_plugins()

    @hydra.main(config_path=str(config_folder()), config_name="config")
    def task(cfg: DictConfig) -> object:
        if forked and OmegaConf.select(cfg, "model.family") != "classical":
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(sys.executable, fresh_command(sys.argv[1:]))  # noqa: S606
        from agnews_exp.experiment import run

        return run(cfg)

    guarded(task)


if __name__ == "__main__":
    main()

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


def check_words(words: Sequence[str]) -> int:
    """Compose and check one job's configuration; print what is wrong.

    Args:
        words: Hydra's words for the job, ``--config-path=`` and ``--config-dir=`` among them.

    Returns:
        0 when it is valid, else an exit code.
    """
    from pathlib import Path

    from agnews_exp.config.compose import compose_config, extra_folders
    from agnews_exp.config.validation import check_config
    from agnews_exp.core.errors import AgnewsError
    from agnews_exp.evaluation.metrics import check_metrics

    folder = next((Path(w.split("=", 1)[1]) for w in words if w.startswith("--config-path=")), None)
    overrides = [w for w in words if not w.startswith("-")]
    try:
        checked = check_config(compose_config(overrides, folder, extra_folders(words)))
        check_metrics(checked.run.evaluation)
    except AgnewsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


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

    from agnews_exp.config.compose import explain_command, register
    from agnews_exp.core.paths import config_folder
    from agnews_exp.core.process import guarded
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

    guarded(task, explain_command)


if __name__ == "__main__":
    main()

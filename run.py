"""Compose a run from conf/ and hand it to agnews_exp.experiment: `python run.py --help`."""

import sys

import hydra
from omegaconf import DictConfig

from agnews_exp.config.compose import explain_command, register
from agnews_exp.core.process import guarded
from agnews_exp.sweeps import register_plugins
from agnews_exp.tracking.worker import start_early

register()
register_plugins()


@hydra.main(config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run one composed experiment and return its objective (a validation metric) for sweepers."""
    from agnews_exp.experiment import run

    return run(cfg)


if __name__ == "__main__":
    start_early(sys.argv[1:])
    guarded(main, explain_command)

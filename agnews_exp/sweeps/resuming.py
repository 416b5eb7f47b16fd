"""`sweep.resume=<name>`: go on with a sweep without repeating its command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from agnews_exp.config.errors import ConfigError
from agnews_exp.sweeps.command import command_words, task_plain
from agnews_exp.sweeps.folder import find_sweep
from agnews_exp.sweeps.job import MODULE
from agnews_exp.sweeps.jobs import config_words


def redirect(config: DictConfig) -> None:
    """Become the stored command when ``sweep.resume`` is set; else return.

    Raises:
        ConfigError: There is no such sweep, or the command says more than how to go on.
    """
    plain = task_plain(config)
    name = plain["sweep"]["resume"]
    if name is None:
        return
    sweeps = Path(plain["paths"]["output_dir"]) / "sweeps"
    folder = find_sweep(sweeps, str(name))
    info = folder.info()
    given = [w for w in command_words(config) if not w.startswith("sweep.resume=")]
    allowed = ("hydra.launcher.", "hydra/launcher=", "hydra.sweeper.n_trials=", "hydra.verbose=", "paths.")
    for word in given:
        if not word.startswith(allowed):
            raise ConfigError(
                f"sweep.resume={name} takes the sweep's own command, so '{word}' has no place beside it.",
                fix=f"leave it out; the command was: {info.get('command')}",
            )
    keys = {w.split("=", 1)[0] for w in given}
    stored = [w for w in info["words"] if w.split("=", 1)[0] not in keys and not w.startswith("sweep.name=")]
    words = [*stored, *given, f"sweep.name={folder.name}"]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(  # noqa: S606
        sys.executable,
        [
            *(sys.executable, "-m", MODULE, "-m"),
            *config_words(folder.snapshots),
            *words,
        ],
    )

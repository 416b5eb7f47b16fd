"""The functions that a sweep's child processes run: one job, the check of a job, the identities of finished jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from agnews_exp.config.validation import CheckedConfig

NEEDS_FRESH = 75
"""Exit code of a forked job that must not be one: torch's threads and CUDA do not survive a fork."""


def run_job(words: Sequence[str], forked: bool, foreign: bool = False) -> None:
    """Run one job with these words of Hydra; one that must not be a fork ends with ``NEEDS_FRESH`` where it is one.

    Of a ``foreign`` configuration, which may be somebody else's, Hydra's own settings are looked at first.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from agnews_exp.config.compose import explain_command, register
    from agnews_exp.core.paths import config_folder
    from agnews_exp.core.process import guarded

    register()
    sys.argv = ["agnews run", *words]

    @hydra.main(config_path=str(config_folder()), config_name="config")
    def task(cfg: DictConfig) -> object:
        if forked and cfg.model.get("family") != "classical":
            sys.exit(NEEDS_FRESH)
        from agnews_exp.experiment import run

        return run(cfg)

    def looked_at() -> object:
        if foreign:
            from agnews_exp.sweeps.replay import refuse_foreign_settings

            refuse_foreign_settings(words)
            GlobalHydra.instance().clear()
        return task()

    guarded(looked_at, explain_command)


def check_job(words: Sequence[str]) -> None:
    """Compose and check a job's configuration; print its mistake and exit with the mistake's code."""
    from agnews_exp.core.errors import AgnewsError
    from agnews_exp.runners.preflight import check_ready

    try:
        check_ready(_checked(words))
    except AgnewsError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def identify_jobs(words: Mapping[int, Sequence[str]], answer: Path) -> None:
    """Write the fingerprints and data checksums that jobs would have now, by number, as JSON into ``answer``.

    A job whose configuration or data cannot be read is left out.
    """
    from agnews_exp.core.errors import AgnewsError
    from agnews_exp.core.files import atomic_path
    from agnews_exp.experiment import expected_fingerprint
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits

    checksums: dict[str, str] = {}
    found: dict[int, dict[str, str]] = {}
    for number, of_job in words.items():
        try:
            checked = _checked(of_job)
            data = json.dumps(checked.plain["data"], sort_keys=True, default=str)
            if data not in checksums:
                checksums[data] = load_splits(checked, Stages()).data_checksum
            identity = expected_fingerprint(checked, checksums[data])
            found[number] = {"fingerprint": identity, "data": checksums[data]}
        except AgnewsError as error:
            print(f"job {number}: {error}", file=sys.stderr)
    with atomic_path(answer) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")


def _checked(words: Sequence[str]) -> CheckedConfig:
    """Compose and check the configuration that Hydra's words describe."""
    from agnews_exp.config.compose import compose_config, extra_folders
    from agnews_exp.config.validation import check_config

    main = next((Path(word.split("=", 1)[1]) for word in words if word.startswith("--config-path=")), None)
    overrides = [word for word in words if not word.startswith("-")]
    return check_config(compose_config(overrides, main, extra_folders(words)))

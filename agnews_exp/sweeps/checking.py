"""Is a job's configuration valid? Asked before a sweep starts: a typo that spoils every job stops it at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def check_words(words: Sequence[str]) -> int:
    """Compose and check one job's configuration; print what is wrong.

    Args:
        words: Hydra's words for the job, ``--config-path=`` and ``--config-dir=`` among them.

    Returns:
        0 when it is valid, else an exit code.
    """
    from pathlib import Path

    from agnews_exp.config.compose import compose_config, extra_folders
    from agnews_exp.config.errors import AgnewsError
    from agnews_exp.config.validation import check_config

    folder = next((Path(w.split("=", 1)[1]) for w in words if w.startswith("--config-path=")), None)
    overrides = [w for w in words if not w.startswith("-")]
    try:
        check_config(compose_config(overrides, folder, extra_folders(words)))
    except AgnewsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0

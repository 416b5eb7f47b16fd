"""The project's root folder, and the conf/ folder that belongs to it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agnews_exp.core.text import visible

_PACKAGE = Path(__file__).resolve().parents[1]


def project_root() -> Path:
    """Return the folder that holds outputs/ and mlruns/.

    AGNEWS_ROOT wins; a source checkout uses itself, so that the same command means the same from every working
    directory; an installed wheel uses the current directory.
    """
    if value := os.environ.get("AGNEWS_ROOT"):
        return Path(value).expanduser().resolve()
    return _PACKAGE.parent if is_checkout() else Path.cwd()


def is_checkout() -> bool:
    """Return whether this is a source checkout, with run.py and conf/ beside the package, and not an installation."""
    checkout = _PACKAGE.parent
    return (checkout / "run.py").is_file() and (checkout / "conf" / "config.yaml").is_file()


def run_command() -> str:
    """Return the command that runs an experiment here: an installed package comes without run.py."""
    return "python run.py" if is_checkout() else "agnews run"


def config_folder() -> Path:
    """Return the conf/ folder: the checkout's, or the copy inside the installed package."""
    return (_PACKAGE.parent if is_checkout() else _PACKAGE) / "conf"


def shown_path(path: Path) -> str:
    """Return a path as messages show it: relative where it lies below the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def file_stem(path: str | None, otherwise: str) -> str:
    """Return a file's name without its ends (``reviews`` of ``data/reviews.csv.gz``), or another word for none."""
    if not path:
        return otherwise
    name = re.sub(r"\.(gz|bz2|xz|lzma|zst|zip)$", "", Path(str(path)).name, flags=re.IGNORECASE)
    return visible(Path(name).stem)[:100] or otherwise


def weights_name(hub: str | None, folder: str | None, otherwise: str) -> str:
    """Return a pretrained model's own name (``ModernBERT-base`` of ``answerdotai/ModernBERT-base@main``)."""
    place = Path(folder).expanduser().resolve().name if folder else str(hub or "").partition("@")[0].rpartition("/")[2]
    return visible(place)[:100] or otherwise


CHECKPOINTS, RESUME_FILE, CHECKPOINT_LOCK = "checkpoints", "resume.json", ".lock"
"""Inside a run folder: the folder of an unfinished training, and in it the file that names its run and the lock of
the process at work."""

HISTORY = "history.jsonl"
"""Inside a run folder: the training curves, one JSON object a line with ``step`` and ``time`` (ms)."""

"""The project's root folder, and the conf/ folder that belongs to it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from agnews_exp.core.errors import ConfigError
from agnews_exp.core.text import has_control, visible

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


_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 200


def wrong_file_name(name: str) -> str | None:
    """Return why a name cannot be a file's or a folder's on every system (Linux, macOS, Windows), or None."""
    if _DEVICE.fullmatch(name):
        return "Windows keeps this name for a device"
    if not name or name[0] in ". " or name[-1] in ". ":
        return "a folder's name neither begins nor ends with a dot or a space"
    if has_control(name) or (signs := set(name) & set('<>:"/\\|?*')):
        return "it holds control characters" if has_control(name) else f"it holds {' '.join(sorted(signs))}"
    return f"it is longer than {_LONGEST_NAME} bytes" if len(name.encode(errors="replace")) > _LONGEST_NAME else None


def check_file_name(key: str, name: str, others: Iterable[str] = ()) -> None:
    """Refuse a name that cannot be a file's or a folder's everywhere, or meets another on some disks.

    Disks of macOS and Windows take ``Grid`` and ``grid`` for one name, and composed and decomposed letters, too.

    Args:
        key: The configuration key that gives the name.
        name: The name.
        others: Names beside which it will stand; where its own is among them, nothing new is made.

    Raises:
        ConfigError: Says what is wrong.
    """
    if (reason := wrong_file_name(name)) is not None:
        raise ConfigError(f"{key}={name!r} cannot be the name of a folder: {reason}.", fix=f"another {key}")
    beside, same = list(others), _one_case(name)
    if name not in beside and (meets := [other for other in beside if _one_case(other) == same]):
        raise ConfigError(
            f"{key}={name} and '{meets[0]}' are one name on disks that do not tell upper from lower case.",
            fix=f"{key}={meets[0]}, or a name that differs in more",
        )


def _one_case(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


CHECKPOINTS, RESUME_FILE, CHECKPOINT_LOCK = "checkpoints", "resume.json", ".lock"
"""Inside a run folder: the folder of an unfinished training, and in it the file that names its run and the lock of
the process at work."""

HISTORY = "history.jsonl"
"""Inside a run folder: the training curves, one JSON object a line with ``step`` and ``time`` (ms)."""

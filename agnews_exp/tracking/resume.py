"""``resume=auto``: find the run that was cut off and go on in its folder and its MLflow run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from agnews_exp.config.locations import CHECKPOINT_LOCK, CHECKPOINTS, RESUME_FILE
from agnews_exp.tracking import record

log = logging.getLogger(__name__)


def find_unfinished(output_dir: Path, fingerprint: str, own: Path) -> Path | None:
    """Return the run folder with the newest checkpoints of a fingerprint that nobody works on, or None.

    Args:
        output_dir: Where runs/ and sweeps/ lie.
        fingerprint: What the run is.
        own: The present run's folder; with ``hydra.run.dir`` fixed it may be the one to go on in.
    """
    patterns = (f"runs/*/{CHECKPOINTS}/{RESUME_FILE}", f"sweeps/*/*/{CHECKPOINTS}/{RESUME_FILE}")
    candidates = {path for pattern in patterns for path in output_dir.glob(pattern)}
    candidates.add(own / CHECKPOINTS / RESUME_FILE)
    found: list[tuple[float, Path]] = []
    for path in candidates:
        content = record.read_json(path)
        if content is None or content.get("fingerprint") != fingerprint:
            continue
        states = [path.parent / name for name in ("last.ckpt", "done.json")]
        times = [state.stat().st_mtime for state in states if state.is_file()]
        folder = path.parent.parent
        if times and record.RunFolder(folder).status != "finished" and not _is_at_work(path.parent):
            found.append((max(times), folder))
    return max(found)[1] if found else None


def _is_at_work(checkpoints: Path) -> bool:
    """Return whether a living process holds the folder's lock (the system drops the locks of dead ones)."""
    from filelock import FileLock, Timeout

    lock = FileLock(checkpoints / CHECKPOINT_LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def continue_in(folder: record.RunFolder, earlier: Path) -> None:
    """Make an earlier run's folder this run's folder: the log goes on there, the new, empty folder goes.

    Args:
        folder: This run's folder; points to the earlier one afterwards.
        earlier: From :func:`find_unfinished`.
    """
    fresh = folder.path
    if fresh.resolve() == earlier.resolve():
        return
    _move_log(fresh, earlier)
    folder.path = earlier
    shutil.rmtree(fresh, ignore_errors=True)


def _move_log(fresh: Path, earlier: Path) -> None:
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        path = Path(handler.baseFilename)
        if path.parent.resolve() != fresh.resolve():
            continue
        moved = logging.FileHandler(earlier / path.name, mode="a")
        moved.setFormatter(handler.formatter)
        moved.setLevel(handler.level)
        root.removeHandler(handler)
        handler.close()
        root.addHandler(moved)

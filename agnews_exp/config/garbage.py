"""Python's garbage collector, told that this is a batch program."""

from __future__ import annotations

import atexit
import gc

_THRESHOLDS = (50_000, 20, 100)


def calm_garbage_collection() -> None:
    """Look for garbage cycles less often than Python does by default, and not at all at exit.

    With the default thresholds the collector walks through all modules again and again while they are imported: a
    fifth of the time that MLflow's import takes. At exit it would walk through everything twice more, half a second of
    a short run, for memory that goes back to the system anyway. What a run allocates in bulk (arrays, texts) is freed
    without it.
    """
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(gc.freeze)

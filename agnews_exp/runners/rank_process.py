"""``python -m agnews_exp.runners.rank_process FOLDER RANK PARENT``: one further process of a training."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def main(folder: Path, rank: int, parent: int) -> None:
    """Train as one of several ranks on the job that rank 0 wrote into ``folder``."""
    # Ctrl-C reaches the whole process group; rank 0 decides what it means and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    from agnews_exp.runners.distributed import RankEnvironment, read_job
    from agnews_exp.runners.training import Listeners, train

    job, port = read_job(folder)
    (folder / f"ready-{rank}").touch()
    train(job, Listeners(), RankEnvironment(rank, job.hardware.world_size, port))


def _follow(parent: int) -> None:
    """End with the parent, even one that was killed: nobody else would."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

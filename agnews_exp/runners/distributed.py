"""Several processes for one training: the run's own process is rank 0 and starts the others itself.

The others get the job with its tokenised rows, not the command line. So they make no run folder and no tracking run,
and it does not matter whether the run is part of a sweep.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.process import explain_exit
from agnews_exp.core.processes import Child, WarmProcesses
from agnews_exp.runners.training import Job, Listeners, train


def train_as_rank(job: Job, rank: int, port: int, ready: Path) -> None:
    """Train as one of several ranks; the file ``ready`` tells rank 0 that this one has started."""
    ready.touch()
    train(job, Listeners(), RankEnvironment(rank, job.hardware.world_size, port))


READY_SECONDS = 300
"""Seconds that the other processes have to start, and at the end to finish."""


class RankEnvironment(LightningEnvironment):
    """Tells Lightning which process of how many on this machine this is, and the port where they meet."""

    def __init__(self, rank: int, world_size: int, port: int) -> None:
        super().__init__()
        self._rank, self._port = rank, port
        self.set_world_size(world_size)
        self.set_global_rank(rank)

    @property
    def creates_processes_externally(self) -> bool:
        """True, because Lightning starts no processes."""
        return True

    @property
    def main_address(self) -> str:
        """The address of this machine, where all processes are."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """The TCP port on which the processes meet."""
        return self._port

    def local_rank(self) -> int:
        """Return the rank of this process, because all are on one machine."""
        return self._rank

    def node_rank(self) -> int:
        """Return 0, the only machine."""
        return 0


@contextmanager
def other_ranks(job: Job) -> Iterator[RankEnvironment]:
    """Run ranks 1 and up beside the block, and yield rank 0's environment.

    Raises:
        AgnewsError: Another rank failed; with the last lines it wrote.
    """
    world_size = job.hardware.world_size
    # On a machine whose name does not resolve, gloo would look for the wrong interface.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    with tempfile.TemporaryDirectory(prefix=".ranks-", dir=job.checkpoints.path) as name:
        folder = Path(name)
        port = _free_port()
        with WarmProcesses() as starter:
            ranks = [
                starter.start(
                    train_as_rank,
                    (job, rank, port, folder / f"ready-{rank}"),
                    log=folder / f"rank-{rank}.log",
                    fresh=True,
                )
                for rank in range(1, world_size)
            ]
            try:
                _await_ready(folder, ranks)
                try:
                    yield RankEnvironment(0, world_size, port)
                except RuntimeError as error:
                    # When a process dies, the others' collectives fail first; its own words say more.
                    raise _failure(folder, ranks, wait=10.0) or error from error
                for rank in ranks:
                    rank.wait(READY_SECONDS)
                if failed := _failure(folder, ranks, wait=0.0):
                    raise failed
            finally:
                for rank in ranks:  # Lightning's own SIGTERM handler would let them go on
                    rank.kill()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _await_ready(folder: Path, ranks: list[Child]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not all((folder / f"ready-{rank}").exists() for rank in range(1, len(ranks) + 1)):
        if failed := _failure(folder, ranks, wait=0.0):
            raise failed
        if time.monotonic() > deadline:
            raise AgnewsError(f"The other processes did not start within {READY_SECONDS} s.", fix="trainer.devices=1")
        time.sleep(0.05)


def _failure(folder: Path, ranks: list[Child], wait: float) -> AgnewsError | None:
    deadline = time.monotonic() + wait
    while True:
        for rank, child in enumerate(ranks, 1):
            code = child.exit_code
            if code not in (None, 0):
                text = (folder / f"rank-{rank}.log").read_text(encoding="utf-8", errors="replace")
                end = explain_exit(code) if code < 0 else f"ended with code {code}"
                tail = "\n  ".join(text.strip().splitlines()[-5:])
                return AgnewsError(
                    f"Process {rank} of the training {end}:\n  {tail}",
                    fix="set trainer.devices=1 to see it without the other processes",
                )
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)

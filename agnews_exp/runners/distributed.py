"""Several processes for one training: the run's own process is rank 0 and starts the others itself.

The others get a folder with the tokenised rows and the settings, not the command line. So they make no run folder and
no tracking run, and it does not matter whether the run is part of a sweep.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

from agnews_exp.config.schema import TrainerConfig
from agnews_exp.core.errors import AgnewsError, StorageError
from agnews_exp.core.process import explain_exit
from agnews_exp.core.processes import Child, WarmProcesses
from agnews_exp.data.datamodule import EncodedRows
from agnews_exp.data.soft_targets import SoftTargets
from agnews_exp.data.tokens import Frame, TokenTable
from agnews_exp.evaluation.metrics import METRICS, Choice, own_metrics
from agnews_exp.models.recipes import read_recipe
from agnews_exp.runners.callbacks import CheckpointFolder
from agnews_exp.runners.devices import Hardware
from agnews_exp.runners.training import Job, Listeners, train


def train_as_rank(folder: Path, rank: int) -> None:
    """Train as one of several ranks on the job that rank 0 wrote into ``folder``."""
    job, port = read_job(folder)
    (folder / f"ready-{rank}").touch()
    train(job, Listeners(), RankEnvironment(rank, job.hardware.world_size, port))


READY_SECONDS = 300
"""Seconds that the other processes have to start, and at the end to finish."""

_SOFT = "train-soft.npz"


class RankEnvironment(ClusterEnvironment):
    """Tells Lightning which process this is; the processes exist already.

    Args:
        rank: This process, 0-based.
        world_size: Number of processes, all on this machine.
        port: TCP port on which they meet.
    """

    def __init__(self, rank: int, world_size: int, port: int) -> None:
        super().__init__()
        self._rank, self._world_size, self._port = rank, world_size, port

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

    @staticmethod
    def detect() -> bool:
        """Return False: the environment is given to Lightning, never detected."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._world_size

    def set_world_size(self, size: int) -> None:
        """Do nothing: it is fixed already."""

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: it is fixed already."""

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
        write_job(job, folder, port)
        with WarmProcesses() as starter:
            ranks = [
                starter.start(train_as_rank, (folder, rank), log=folder / f"rank-{rank}.log", fresh=True)
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


def write_job(job: Job, folder: Path, port: int) -> None:
    """Write a job into a folder, for :func:`read_job`."""
    for name, rows in (("train", job.train), ("validation", job.validation)):
        np.save(folder / f"{name}-ids.npy", rows.table.ids)
        np.save(folder / f"{name}-offsets.npy", rows.table.offsets)
        np.save(folder / f"{name}-labels.npy", rows.labels)
    if (soft := job.train.soft) is not None:
        np.savez(folder / _SOFT, probabilities=soft.probabilities, share=soft.share, temperature=soft.temperature)
    job.tokenizer.save_pretrained(folder / "tokenizer")
    content = {
        "recipe": job.recipe.as_dict(),
        "settings": job.settings.model_dump(),
        "hardware": asdict(job.hardware),
        "class_names": job.class_names,
        "frame": asdict(job.train.frame),
        "max_length": job.train.max_length,
        "run_folder": str(job.checkpoints.path.parent),
        "fingerprint": job.checkpoints.fingerprint,
        "seed": job.seed,
        "monitor": [job.monitor.metric.name, job.monitor.metric.target, job.monitor.class_name],
        "port": port,
    }
    (folder / "job.json").write_text(json.dumps(content), encoding="utf-8")


def read_job(folder: Path) -> tuple[Job, int]:
    """Return the job and the port that :func:`write_job` wrote."""
    from transformers import PreTrainedTokenizerFast

    try:
        content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{folder} holds no job: {error}") from error
    framing = content["frame"]
    frame = Frame(tuple(framing["prefix"]), tuple(framing["suffix"]), framing["pad_id"])

    def rows(name: str) -> EncodedRows:
        ids, offsets, labels = (
            np.load(folder / f"{name}-{part}.npy", mmap_mode="r") for part in ("ids", "offsets", "labels")
        )
        return EncodedRows(TokenTable(ids, np.asarray(offsets)), np.asarray(labels), frame, content["max_length"])

    train = rows("train")
    if (folder / _SOFT).is_file():
        with np.load(folder / _SOFT) as stored:
            soft = SoftTargets(stored["probabilities"], stored["share"], float(stored["temperature"]))
        train = replace(train, soft=soft)
    name, target, class_name = content["monitor"]
    hardware = content["hardware"] | {"devices": tuple(content["hardware"]["devices"])}
    job = Job(
        recipe=read_recipe(content["recipe"]),
        settings=TrainerConfig.model_validate(content["settings"]),
        hardware=Hardware(**hardware),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True),
        class_names=tuple(content["class_names"]),
        train=train,
        validation=rows("validation"),
        checkpoints=CheckpointFolder(Path(content["run_folder"]), content["fingerprint"]),
        seed=content["seed"],
        monitor=Choice(own_metrics([target])[0] if target else METRICS[name], class_name),
    )
    return job, int(content["port"])

"""A lock on a folder that is free only when the last process of a call is gone, however it ended."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

from agnews_exp.config.errors import ConfigError
from agnews_exp.tracking import record

_LOCK = ".lock"
LOCK_SECONDS = 60.0
"""How long to wait for the last processes of an earlier call to end."""


class WorkLock:
    """The lock of one folder: a file descriptor that a call's child processes inherit.

    Args:
        folder: The folder; it is made when the lock is taken.
        what: What the folder is, for the error: ``The sweep 'x'``.
        fix: What to do when another process works in it.
    """

    def __init__(self, folder: Path, what: str, fix: str) -> None:
        self._folder, self._what, self._fix = folder, what, fix
        self.descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder for this process and the children that get the descriptor.

        Raises:
            ConfigError: Another process works in it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(descriptor):
            owner = self._owner()
            if owner is not None or time.monotonic() > deadline:
                os.close(descriptor)
                who = f"process {owner}" if owner else "processes of an earlier call"
                raise ConfigError(f"{self._what} is being worked on by {who}.", fix=self._fix)
            time.sleep(0.1)
        self.descriptor = descriptor
        self._claim(descriptor)

    @staticmethod
    def _claim(descriptor: int) -> None:
        import psutil

        os.ftruncate(descriptor, 0)
        content = {"pid": os.getpid(), "started": psutil.Process().create_time()}
        os.pwrite(descriptor, json.dumps(content).encode(), 0)

    def _owner(self) -> int | None:
        """Return the parent process that holds the lock, or None when only its leftovers do."""
        import psutil

        content = record.read_json(self._folder / _LOCK)
        if content is None:
            return None
        try:
            alive = abs(psutil.Process(content["pid"]).create_time() - content["started"]) < 1
        except psutil.Error:
            return None
        return int(content["pid"]) if alive else None

    @property
    def active(self) -> bool:
        """Whether a process works in the folder now."""
        try:
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _locked(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the folder back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _locked(descriptor: int) -> bool:
    """Try to take the lock on an open file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

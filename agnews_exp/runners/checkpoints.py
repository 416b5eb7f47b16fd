"""The checkpoints/ folder of an unfinished run: what resuming needs, written so that a kill at any moment is harmless.

``last.ckpt`` is Lightning's whole state after some optimiser step, ``best.safetensors`` the best weights so far and
what they answered for the validation rows, ``done.json`` says that training is over, ``resume.json`` whose run it is.
A lock, which the operating system drops when a process dies, keeps two processes from training in one folder.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.plugins.io import TorchCheckpointIO

from agnews_exp.config.errors import StorageError
from agnews_exp.config.locations import CHECKPOINT_LOCK, CHECKPOINTS, RESUME_FILE
from agnews_exp.config.storage import atomic_path

_BEST = "best.safetensors"
_WEIGHTS, _ANSWERS = "weights.", "validation_answers"
_CHECKSUM = "crc32"


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically and reads them with ``weights_only=True``: plain types and tensors only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the place, flush, and move there."""
        target = Path(path)
        with atomic_path(target) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load onto the CPU unless told otherwise; never unpickles objects."""
        try:
            # PyTorch's reader does not look at the archive's checksums: a flipped bit would be a weight.
            with zipfile.ZipFile(path) as archive:
                if (bad := archive.testzip()) is not None:
                    raise ValueError(f"{bad} does not match its checksum")
            loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # what a made-up file raises is in no list
            raise _damaged(Path(path), error) from error
        return loaded


def _damaged(path: Path, error: Exception) -> StorageError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return StorageError(f"{path} is damaged: {reason}", fix="delete its folder, or run without resume=auto")


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the CRC-32 of names and bytes of tensors on the CPU."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


class CheckpointFolder:
    """One run's checkpoints.

    Args:
        run_folder: The run's folder.
        fingerprint: The run's fingerprint.
    """

    def __init__(self, run_folder: Path, fingerprint: str) -> None:
        self.path = run_folder / CHECKPOINTS
        self.fingerprint = fingerprint

    @property
    def last(self) -> Path:
        """Where the state to resume from lies."""
        return self.path / "last.ckpt"

    @contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Hold the folder for this process; what lies there from another run, or is not to be resumed, is removed.

        Raises:
            StorageError: Another process trains here.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / CHECKPOINT_LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StorageError(
                f"{self.path}: another process is training in this folder.", fix="wait for it, or drop resume=auto"
            ) from error
        try:
            if not resume or self._read(RESUME_FILE).get("fingerprint") != self.fingerprint:
                self._clear()
            self._write(RESUME_FILE, {"fingerprint": self.fingerprint})
            yield
        finally:
            lock.release()

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.name != CHECKPOINT_LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def save_best(self, weights: Mapping[str, torch.Tensor], answers: NDArray[np.float32] | None) -> None:
        """Keep weights that beat all earlier ones, with their validation logits (n, K)."""
        from safetensors.torch import save_file

        tensors = {_WEIGHTS + k: v.detach().cpu().contiguous() for k, v in weights.items()}
        if answers is not None:  # in the same file, so that a kill never leaves the answers of other weights
            tensors[_ANSWERS] = torch.from_numpy(np.ascontiguousarray(answers))
        with atomic_path(self.path / _BEST) as temporary:
            save_file(tensors, temporary, metadata={_CHECKSUM: _checksum(tensors)})

    def best(self) -> tuple[dict[str, torch.Tensor], NDArray[np.float32] | None] | None:
        """Return what :meth:`save_best` kept, or None."""
        from safetensors import safe_open

        path = self.path / _BEST
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                noted = (file.metadata() or {}).get(_CHECKSUM)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            if noted != _checksum(tensors):
                raise ValueError("the weights do not match their checksum")
            answers = tensors.pop(_ANSWERS, None)
            weights = {name.removeprefix(_WEIGHTS): tensor for name, tensor in tensors.items()}
            return weights, None if answers is None else answers.numpy()
        except Exception as error:  # as above
            raise _damaged(path, error) from error

    def finish(self, summary: Mapping[str, float]) -> None:
        """Note that training is over."""
        self._write("done.json", dict(summary))

    def finished(self) -> dict[str, float] | None:
        """Return the summary of a training that is over, else None."""
        return self._read("done.json") or None

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _read(self, name: str) -> dict[str, Any]:
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return {}

"""What an interrupted training goes on from is what was written, or it is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agnews_exp.core.errors import StorageError
from agnews_exp.runners.callbacks import CheckpointFolder, SafeCheckpointIO

WEIGHTS = {"w": torch.arange(1000.0).reshape(10, 100), "scale": torch.tensor(2.0, dtype=torch.bfloat16)}


def change_a_weight(path):
    """Turn the weight 500.0 into another number, in place."""
    content, old = path.read_bytes(), np.float32(500.0).tobytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, np.float32(501.0).tobytes()))


def test_a_changed_weight_in_the_training_state_is_refused(tmp_path):
    io, path = SafeCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"epoch": 3, "state_dict": WEIGHTS}, path)
    assert torch.equal(io.load_checkpoint(path)["state_dict"]["w"], WEIGHTS["w"])
    change_a_weight(path)
    with pytest.raises(StorageError, match="checksum"):
        io.load_checkpoint(path)


@pytest.mark.parametrize("answers", [None, np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)])
def test_best_weights_come_back_with_their_answers_or_are_refused(tmp_path, answers):
    folder = CheckpointFolder(tmp_path, "x")
    folder.path.mkdir()
    folder.save_best(WEIGHTS, answers)
    weights, again = folder.best()
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    np.testing.assert_array_equal(again, answers)
    change_a_weight(folder.path / "best.safetensors")
    with pytest.raises(StorageError, match="checksum"):
        folder.best()

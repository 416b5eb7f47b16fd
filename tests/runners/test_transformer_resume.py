"""A training that was cut off and resumed ends with the very weights of one that was not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

EVERY_STEP = ("trainer.checkpoint_every_n_steps=1", "trainer.checkpoint_every_seconds=null")


class Cut(Exception):
    """Stands for the kill."""


def cut_after(training, n_steps, monkeypatch):
    """Run and stop in the middle of training step ``n_steps`` + 1, which is lost."""
    from agnews_exp.models.transformer import TextClassifier

    watched = TextClassifier.training_step

    def stopping(self, batch, batch_idx):
        if len(training.steps) == n_steps:
            raise Cut
        return watched(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TextClassifier, "training_step", stopping)
        with pytest.raises(Cut):
            training.run()


@pytest.mark.parametrize(
    ("cut", "overrides"),
    [
        (3, ()),
        (13, ()),
        (17, ("trainer.num_workers=1",)),
        (8, ("trainer.accumulate_grad_batches=2",)),
        (5, ("model.ema_decay=0.9", "model.schedule=cosine")),
        (6, ("trainer.val_check_interval=0.25", "trainer.early_stopping_patience=5")),
        (15, ("model.freeze_encoder=true", "model.unfreeze_at_epoch=1", "model.layerwise_lr_decay=0.8")),
        (5, ("trainer.token_budget=200",)),
        (4, ("trainer.limit_train_batches=6", "trainer.max_steps=9", "optimizer=muon")),
    ],
)
def test_resumed_training_repeats_every_later_step_and_ends_with_equal_weights(
    make_training, tmp_path, monkeypatch, cut, overrides
):
    whole = make_training(tmp_path / "whole", *EVERY_STEP, *overrides)
    whole_summary = whole.run()
    expected, weights = list(whole.steps), whole.weights()
    part = make_training(tmp_path / "part", *EVERY_STEP, *overrides)
    cut_after(part, cut, monkeypatch)
    assert part.job.checkpoints.last.is_file()
    resumed = make_training(tmp_path / "part", *EVERY_STEP, *overrides)
    summary = resumed.run()
    assert 0 < len(resumed.steps) < len(expected)
    assert resumed.steps == expected[-len(resumed.steps) :]
    assert summary["train_steps"] == whole_summary["train_steps"]
    assert (summary["best_epoch"], summary["best_step"]) == (whole_summary["best_epoch"], whole_summary["best_step"])
    for name, values in resumed.weights().items():
        np.testing.assert_array_equal(values, weights[name], err_msg=name)


def test_resumed_history_has_every_step_once(make_training, tmp_path, monkeypatch):
    part = make_training(tmp_path, *EVERY_STEP)
    cut_after(part, 14, monkeypatch)
    make_training(tmp_path, *EVERY_STEP).run()
    points = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    steps = [point["step"] for point in points if "curve/train_loss" in point]
    assert steps == list(range(1, 23))
    assert [point["step"] for point in points if "curve/val_macro_f1" in point] == [11, 22]


def test_checkpoint_loads_with_weights_only_and_holds_no_objects(make_training, tmp_path, monkeypatch):
    part = make_training(tmp_path, *EVERY_STEP, "model.ema_decay=0.9", "trainer.early_stopping_patience=2")
    cut_after(part, 14, monkeypatch)
    content = torch.load(part.job.checkpoints.last, weights_only=True)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "average"} <= set(content)


def test_damaged_checkpoint_is_named(make_training, tmp_path):
    from agnews_exp.core.errors import StorageError

    training = make_training(tmp_path)
    training.job.checkpoints.last.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(StorageError, match=r"last\.ckpt is damaged"):
        training.run()


def test_checkpoints_of_another_run_or_without_resume_are_cleared(tmp_path):
    from agnews_exp.runners.callbacks import CheckpointFolder

    first = CheckpointFolder(tmp_path, "one")
    with first.opened(resume=False):
        first.finish({"train_steps": 1.0})
    with CheckpointFolder(tmp_path, "one").opened(resume=True):
        assert first.finished() == {"train_steps": 1.0}
    with CheckpointFolder(tmp_path, "two").opened(resume=True):
        assert first.finished() is None
    first.finish({"train_steps": 1.0})
    with CheckpointFolder(tmp_path, "two").opened(resume=False):
        assert first.finished() is None


def test_second_process_in_the_same_folder_is_refused(tmp_path):
    from agnews_exp.core.errors import StorageError
    from agnews_exp.runners.callbacks import CheckpointFolder

    with (
        CheckpointFolder(tmp_path, "one").opened(resume=False),
        pytest.raises(StorageError, match="another process"),
        CheckpointFolder(tmp_path, "one").opened(resume=True),
    ):
        pass

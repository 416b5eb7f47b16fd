"""A transformer's training on a few sample rows, without the command around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SMALL = (
    "model=tiny",
    "model.dim=16",
    "model.hidden_dim=32",
    "model.vocabulary=500",
    "model.max_length=24",
    "data=sample",
    "data_fraction=0.05",
    "trainer=cpu",
    "trainer.n_jobs=1",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "trainer.batch_size=16",
    "tracking=none",
)


@dataclass
class Training:
    """A job on 170 training rows, and what every training step saw."""

    job: Any
    steps: list[tuple[int, int, list[int], float]]

    def run(self, **options: Any) -> dict[str, float]:
        """Train to the end."""
        from agnews_exp.runners.training import Listeners, train

        self.steps.clear()
        return train(self.job, Listeners(**options))

    def weights(self) -> dict[str, Any]:
        """The best weights."""
        return {name: tensor.numpy() for name, tensor in self.job.checkpoints.best()[0].items()}


@pytest.fixture(scope="session")
def start_project(tmp_path_factory):
    """Return ``start(*words) -> (run, root)``; ``run(*overrides)`` does a whole run in a project of its own."""
    from agnews_exp.config.compose import compose_config
    from agnews_exp.experiment import execute

    def start(*words: str):
        root = tmp_path_factory.mktemp("project")
        number = iter(range(1000))

        def run(*overrides: str):
            folder = root / "outputs" / "runs" / f"{next(number):04}"
            folder.mkdir(parents=True)
            return execute(compose_config([*words, f"paths.root_dir={root}", *overrides]), folder)

        return run, root

    return start


@pytest.fixture(scope="session")
def small_splits():
    """The sample's split, a twentieth of its training rows and a few validation rows."""
    from dataclasses import replace

    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits

    splits = load_splits(check_config(compose_config(SMALL)), Stages(quiet=True))
    return replace(splits, validation=splits.validation.take(np.arange(91)))


@pytest.fixture
def make_training(small_splits, monkeypatch):
    """Return ``make(folder, *overrides, resume=False) -> Training``."""
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.targets import safe_instantiate
    from agnews_exp.config.validation import check_config
    from agnews_exp.data.datamodule import EncodedRows
    from agnews_exp.data.tokens import frame_of, tokenize
    from agnews_exp.models.encoders import load_tokenizer
    from agnews_exp.models.transformer import TextClassifier
    from agnews_exp.runners.callbacks import CheckpointFolder
    from agnews_exp.runners.devices import choose_hardware
    from agnews_exp.runners.training import Job

    original = TextClassifier.training_step
    steps: list[Any] = []

    def watched(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        steps.append((self.current_epoch, batch_idx, batch["rows"].tolist(), float(loss.detach())))
        return loss

    monkeypatch.setattr(TextClassifier, "training_step", watched)

    def make(folder: Path, *overrides: str) -> Training:
        checked = check_config(compose_config([*SMALL, *overrides]))
        recipe = safe_instantiate(checked.component("model"), "model")
        tokenizer = load_tokenizer(recipe, small_splits.train.texts)
        frame = frame_of(tokenizer)
        train, validation = (
            EncodedRows(tokenize(rows.texts, tokenizer, None), rows.labels, frame, recipe.max_length)
            for rows in (small_splits.train, small_splits.validation)
        )
        settings = checked.run.trainer
        checkpoints = CheckpointFolder(folder, "fingerprint")
        checkpoints.path.mkdir(parents=True, exist_ok=True)
        hardware = choose_hardware(settings, large=recipe.large)
        names = small_splits.class_names
        return Training(Job(recipe, settings, hardware, tokenizer, names, train, validation, checkpoints, 42), steps)

    return make

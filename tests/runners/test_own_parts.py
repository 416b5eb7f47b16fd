"""Parts of the user's own: networks, callbacks and loggers by one class and one line, refused in plain words."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.fingerprint import fingerprint
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError
from agnews_exp.models.loading import load_model
from agnews_exp.runners.preflight import check_ready
from agnews_exp.runners.training import build_part

SOURCE = """
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import nn


class Bag(nn.Module):
    def __init__(self, vocabulary, n_classes, pad_id, width: int = 8):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.top = nn.Linear(width, n_classes)

    def forward(self, input_ids, attention_mask):
        return self.top((self.words(input_ids) * attention_mask.unsqueeze(-1)).mean(1))


class Stepping(Bag, pl.LightningModule):
    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])
        self.log("own_loss", loss, on_step=True)
        return {"loss": loss}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.125)


class Narrow(Bag):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask)[:, 0]


class Doubling(pl.Callback):
    def __init__(self, factor: float = 2.0):
        self.factor = factor

    def on_train_end(self, trainer, pl_module):
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.mul_(self.factor)


class Listing(Logger):
    name, version, seen = "listing", "", []

    def log_metrics(self, metrics, step=None):
        self.seen.append((step, dict(metrics)))

    def log_hyperparams(self, params):
        self.seen.append(params)
"""
NETWORK = ("model=network", "model.vocabulary=500", "model.max_length=24", "trainer.max_epochs=1")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AGNEWS_COMPONENTS", "own_parts")
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    import own_parts

    yield own_parts
    del sys.modules["own_parts"]


@pytest.fixture
def run(parts, start_project):
    """Do a whole run on a few sample rows."""
    return start_project(
        "data=sample", "data_fraction=0.05", "trainer=cpu", "trainer.n_jobs=1", "tracking=none",
        "evaluation.latency_repeats=0", *NETWORK,
    )[0]  # fmt: skip


def test_a_torch_module_is_trained_judged_saved_and_loaded(run):
    done = run("model.network=own_parts.Bag", "model.arguments={width: 4}", "model.learning_rate=0.01")
    assert done.result["metrics"]["n_parameters"] == 4 * len(load_model(done.folder / "model").tokenizer) + 4 * 4 + 4
    model = load_model(done.folder / "model")
    texts = ["the bank raised its rates again", "a goal in the last minute"]
    assert model.predict(texts).probabilities.shape == (2, 4)
    assert type(model.network).__name__ == "Bag"


def test_the_training_step_and_the_optimizer_of_a_lightning_module_are_used(run):
    done = run("model.network=own_parts.Stepping", "trainer.log_every_n_steps=1", "logger=csv")
    points = [json.loads(line) for line in (done.folder / "history.jsonl").read_text().splitlines()]
    assert {point["curve/learning_rate"] for point in points if "curve/learning_rate" in point} == {0.125}
    assert sum("curve/own_loss" in point for point in points) > 3
    with (done.folder / "logs" / "csv" / "metrics.csv").open() as file:
        assert {"own_loss", "train/loss", "val/macro_f1"} <= set(next(csv.reader(file)))
    assert "learning_rate" in (done.folder / "logs" / "csv" / "hparams.yaml").read_text()


def test_what_a_callback_leaves_is_judged_and_kept_where_it_is_better(parts, make_training, tmp_path):
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=3")
    plain = make_training(tmp_path / "plain", *short)
    plain.run()
    swa = make_training(tmp_path / "swa", *short, "trainer.max_epochs=2")
    object.__setattr__(swa.job, "callbacks", ("early_stopping", {"_target_": "swa", "swa_epoch_start": 1}))
    swa.run()
    assert not all(np.array_equal(swa.weights()[name], values) for name, values in plain.weights().items())
    judged = []

    doubled = make_training(tmp_path / "doubled", *short)
    object.__setattr__(
        doubled.job, "callbacks", ("own_parts.Doubling", {"_target_": "own_parts.Doubling", "factor": 0.5})
    )
    doubled.run(report=lambda number, score: judged.append(score))
    assert len(judged) == 2, "the weights are judged once more at the end"
    assert judged[0] == judged[1], "times two and a half is as before"
    for name, values in plain.weights().items():
        np.testing.assert_array_equal(doubled.weights()[name], values)


def test_callbacks_and_own_code_are_part_of_the_identity_and_loggers_are_not(parts, tmp_path):
    def mark(*words):
        return fingerprint(check_config(compose_config(["model=tiny", *words])).plain, "data")

    usual = mark()
    assert mark("logger=csv") == usual == mark("callbacks=[]")
    own = mark("callbacks=[own_parts.Doubling]")
    assert (
        len({usual, own, mark("callbacks=[swa]"), mark("callbacks=[{_target_: own_parts.Doubling, factor: 3}]")}) == 4
    )
    networks = ["model=network", "model.network=own_parts.Bag"]
    before = fingerprint(check_config(compose_config(networks)).plain, "data")
    (tmp_path / "own_parts.py").write_text(SOURCE + "# changed\n")
    assert mark("callbacks=[own_parts.Doubling]") != own
    assert fingerprint(check_config(compose_config(networks)).plain, "data") != before
    weighing = check_config(compose_config(["model=logreg"])).plain
    without = {**weighing, "model": {k: v for k, v in weighing["model"].items() if k != "class_weight"}}
    assert fingerprint(weighing, "d") == fingerprint(without, "d"), "null weights are no weights"


def test_parts_that_cannot_be_are_refused_before_any_training(parts):
    def error(*words):
        composed = compose_config(list(words))
        with pytest.raises(AgnewsError) as caught:
            check_ready(check_config(composed))
        return f"{caught.value} {caught.value.fix}"

    tiny, own = "model=tiny", "model=network"
    assert "early_stopping" in error(tiny, "callbacks=[early_stoping]")
    assert "patience" in error(tiny, "callbacks=[{_target_: early_stopping, patienc: 3}]")
    assert "callbacks.factor" in error(tiny, "callbacks=[{_target_: own_parts.Doubling, factor: much}]")
    assert "AGNEWS_COMPONENTS" in error(tiny, "callbacks=[os.system]")
    assert "no Callback" in error(tiny, "callbacks=[own_parts.Bag]")
    assert "lacks _target_" in error(tiny, "callbacks=[{patience: 3}]")
    assert "model=logreg" in error("model=logreg", "callbacks=[swa]")
    assert "model=logreg" in error("model=logreg", "logger=csv")
    assert "model.network=my_networks.Mine" in error(own)
    assert "width" in error(own, "model.network=own_parts.Bag", "model.arguments={widht: 3}")
    assert "AGNEWS_COMPONENTS" in error(own, "model.network=torch.nn.Linear")
    for package in ("tensorboard", "wandb"):
        assert f"pip install {package}" in error(tiny, f"logger={package}")


def test_networks_that_give_no_logits_or_ignore_options_are_told(run):
    with pytest.raises(ConfigError, match="not logits"):
        run("model.network=own_parts.Narrow")
    with pytest.raises(ConfigError, match=r"no torch\.nn\.Module"):
        run("model.network=own_parts.Doubling")
    with pytest.raises(ConfigError, match="training_step of its own"):
        run("model.network=own_parts.Stepping", "loss=weighted")


def test_a_logger_of_the_users_own_hears_what_the_curves_do(parts):
    logger = build_part({"_target_": "own_parts.Listing"}, "loggers", {"save_dir": "nowhere"})
    assert isinstance(logger, parts.Listing)
    with pytest.raises(MissingDependencyError):
        build_part({"_target_": "wandb_logger"}, "loggers", {})


def test_an_estimator_yaml_needs_its_target_alone(project):
    folder = project.root / "mine" / "model"
    folder.mkdir(parents=True)
    (folder / "percept.yaml").write_text("# A perceptron.\n#   agnews run\n_target_: sklearn.linear_model.Perceptron\n")
    (folder / "centre.yaml").write_text(
        "# Centres.\n#   agnews run\n_target_: sklearn.discriminant_analysis.LinearDiscriminantAnalysis\n"
    )
    words = ("--config-dir=mine", "data=sample", "data_fraction=0.2", "evaluation.latency_repeats=0", "tracking=none")
    done = project.run(*words, "model=percept", "features=word_tfidf", "+model.penalty=l2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.result()["model"], project.result()["name"]) == ("percept", "percept-word_tfidf")
    refused = project.run(*words, "model=centre", "features=word_tfidf")
    assert refused.returncode == 2
    assert "dense" in refused.stdout + refused.stderr

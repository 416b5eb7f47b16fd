"""Each option of the trainer and of a network's training does something, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agnews_exp.core.errors import ConfigError
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.recipes import BiLSTM, TextCNN
from agnews_exp.models.transformer import TextClassifier
from agnews_exp.runners.training import check_job, new_network

ONE_EPOCH = ("trainer.max_epochs=1", "trainer.limit_train_batches=4", "trainer.batch_size=8")


@pytest.fixture
def losses(make_training, tmp_path):
    """Return ``losses(*overrides) -> [loss of each step]`` of a short training."""
    number = iter(range(100))

    def run(*overrides):
        training = make_training(tmp_path / str(next(number)), *ONE_EPOCH, *overrides)
        training.run()
        return [step[3] for step in training.steps]

    return run


@pytest.fixture
def in_a_step(make_training, tmp_path, monkeypatch):
    """Return ``look(question, *overrides)``: what ``question()`` answers inside a training step."""

    def look(question, *overrides):
        answers = []
        original = TextClassifier.training_step

        def asked(self, batch, batch_idx):
            answers.append(question())
            return original(self, batch, batch_idx)

        monkeypatch.setattr(TextClassifier, "training_step", asked)
        make_training(tmp_path / "_".join(overrides), *ONE_EPOCH, "trainer.limit_train_batches=1", *overrides).run()
        return answers[0]

    return look


def test_clipping_by_norm_by_value_and_not_at_all_are_three_trainings(losses):
    runs = [
        losses("trainer.gradient_clip_val=null"),
        losses("trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=norm"),
        losses("trainer.gradient_clip_val=0.0001", "trainer.gradient_clip_algorithm=value"),
    ]
    assert len({run[0] for run in runs}) == 1, "nothing was clipped before the first step"
    assert len({run[-1] for run in runs}) == 3


def test_label_smoothing_changes_the_loss(losses):
    assert losses("model.label_smoothing=0.4")[0] != losses("model.label_smoothing=0.0")[0]


def test_longer_warm_up_moves_less_at_first(make_training, tmp_path):
    moved = []
    for ratio in (0.0, 1.0):
        training = make_training(tmp_path / str(ratio), "trainer.max_steps=1", f"model.warmup_ratio={ratio}")
        start = {n: p.detach().numpy().copy() for n, p in new_network(training.job).named_parameters()}
        training.run()
        moved.append(sum(np.abs(values - start[name]).sum() for name, values in training.weights().items()))
    assert 0 < moved[1] < 0.9 * moved[0]


def test_gradient_checkpointing_computes_layers_twice_and_learns_the_same(make_training, tmp_path, monkeypatch):
    from transformers.models.distilbert import modeling_distilbert

    calls = []
    original = modeling_distilbert.FFN.forward

    def counted(self, *args, **more):
        calls.append(torch.is_grad_enabled())
        return original(self, *args, **more)

    monkeypatch.setattr(modeling_distilbert.FFN, "forward", counted)
    found = {}
    for value in ("false", "true"):
        calls.clear()
        training = make_training(tmp_path / value, *ONE_EPOCH, f"model.gradient_checkpointing={value}")
        training.run()
        found[value] = (sum(calls), [step[3] for step in training.steps])
    assert found["true"][0] == 2 * found["false"][0]
    np.testing.assert_allclose(found["true"][1], found["false"][1], rtol=1e-4)


@pytest.mark.parametrize("kind", [BiLSTM, TextCNN])
def test_dropout_of_the_embedding_is_a_dropout_of_its_own(kind):
    texts = ["the bank raised its rates", "the team won the final"] * 20
    recipe = kind(vocabulary=300, embedding_dim=16, max_length=16, dropout=0.0, embedding_dropout=0.5)
    tokenizer = load_tokenizer(recipe, texts)
    network = build_network(recipe, tokenizer, ("a", "b"))
    batch = tokenizer(texts[:2], return_tensors="pt", padding=True)

    def answers():
        return [network(batch["input_ids"], batch["attention_mask"]) for _ in range(2)]

    first, again = network.train() and answers()
    assert not torch.equal(first, again)
    first, again = network.eval() and answers()
    assert torch.equal(first, again)


def test_evaluation_batch_size_changes_no_answer(make_training, tmp_path, monkeypatch):
    sizes = []
    original = TextClassifier.validation_step

    def watched(self, batch, batch_idx):
        sizes.append(len(batch["rows"]))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TextClassifier, "validation_step", watched)
    scores = []
    for size in (7, 64):
        sizes.clear()
        training = make_training(tmp_path / str(size), *ONE_EPOCH, f"trainer.evaluation_batch_size={size}")
        heard = []
        training.run(report=lambda _, score, heard=heard: heard.append(score))
        assert max(sizes) == size
        scores.append(heard)
    assert scores[0] == scores[1] != []


def test_validations_come_as_often_and_on_as_many_rows_as_asked(make_training, tmp_path, monkeypatch):
    seen = []
    original = TextClassifier.validation_step

    def watched(self, batch, batch_idx):
        seen.append(len(batch["rows"]))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TextClassifier, "validation_step", watched)
    common = ("trainer.max_epochs=4", "trainer.limit_train_batches=1", "trainer.evaluation_batch_size=10")
    for extra, validations in (("trainer.check_val_every_n_epoch=1", 4), ("trainer.check_val_every_n_epoch=2", 2)):
        heard = []
        make_training(tmp_path / extra, *common, extra).run(report=lambda n, _, heard=heard: heard.append(n))
        assert len(heard) == validations
    seen.clear()
    make_training(tmp_path / "few", *common, "trainer.max_epochs=1", "trainer.limit_val_batches=2").run()
    assert len(seen) == 2


def test_torch_is_set_as_asked_while_it_trains(in_a_step):
    assert in_a_step(torch.is_anomaly_enabled, "trainer.detect_anomaly=true")
    assert not in_a_step(torch.is_anomaly_enabled, "trainer.detect_anomaly=false")
    try:
        assert in_a_step(torch.are_deterministic_algorithms_enabled, "trainer.deterministic=true")
        assert in_a_step(lambda: torch.backends.cudnn.benchmark, "trainer.benchmark=true")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False


def test_profile_is_written_beside_the_curves(make_training, tmp_path):
    training = make_training(tmp_path / "run", *ONE_EPOCH, "trainer.profiler=simple")
    training.run()
    assert "run_training_batch" in (tmp_path / "run" / "fit-profile.txt").read_text()


def test_a_progress_bar_shows_when_it_is_asked_for(make_training, tmp_path, capsys):
    make_training(tmp_path / "a", *ONE_EPOCH).run(progress=True)
    assert "Epoch 0" in "".join(capsys.readouterr())
    make_training(tmp_path / "b", *ONE_EPOCH).run(progress=False)
    assert "Epoch 0" not in "".join(capsys.readouterr())


def test_checkpoints_stay_when_they_are_to_be_kept(start_project):
    tiny = ("model=tiny", "model.dim=16", "model.hidden_dim=32", "model.vocabulary=300", "model.max_length=16")
    run, root = start_project(
        *tiny, "data=sample", "data_fraction=0.05", "trainer=cpu", "trainer.n_jobs=1", "trainer.max_steps=2",
        "tracking=none", "evaluation.latency_repeats=0",
    )  # fmt: skip
    run("trainer.keep_checkpoints=true")
    run("trainer.keep_checkpoints=false", "seed=2")
    kept, dropped = (root / "outputs" / "runs" / name / "checkpoints" for name in ("0000", "0001"))
    assert (kept / "best.safetensors").is_file()
    assert not dropped.exists()


def test_numbers_and_shares_of_batches_that_do_not_fit_are_refused_before_the_training(make_training, tmp_path):
    for number, (words, said) in enumerate((
        (("trainer.val_check_interval=500",), "val_check_interval=500: an epoch has 22 batches"),
        (("trainer.val_check_interval=5", "trainer.limit_train_batches=4"), "val_check_interval=5: an epoch has 4"),
        (("trainer.val_check_interval=12", "trainer.limit_train_batches=0.5"), "an epoch has 11"),
        (("trainer.limit_train_batches=0.01",), "limit_train_batches=0.01: of 22 batches"),
        (("trainer.limit_val_batches=0.1",), "limit_val_batches=0.1: of 1 batches"),
    )):  # fmt: skip
        job = make_training(tmp_path / str(number), "trainer.batch_size=8", *words).job
        with pytest.raises(ConfigError, match=said):
            check_job(job)
    for words in (("trainer.val_check_interval=22",), ("trainer.val_check_interval=0.1",), ()):
        check_job(make_training(tmp_path / "fits", "trainer.batch_size=8", *words).job)

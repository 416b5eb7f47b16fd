"""Training on small data: what the options do, and how trouble is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agnews_exp.evaluation.metrics import find_metric, judge
from agnews_exp.models.answers import predictions_of


def test_same_seed_gives_the_same_weights_whatever_num_workers_and_logging_are(make_training, tmp_path):
    first = make_training(tmp_path / "a")
    first.run()
    second = make_training(
        tmp_path / "b", "trainer.num_workers=2", "trainer.log_every_n_steps=7", "trainer.checkpoint_every_n_steps=2"
    )
    torch.rand(5)
    second.run()
    for name, values in second.weights().items():
        np.testing.assert_array_equal(values, first.weights()[name], err_msg=name)


def test_training_without_padding_follows_the_same_path(make_training, tmp_path):
    options = ("model.dropout=0.0", "trainer.group_by_length=false", "trainer.max_epochs=1")
    padded = make_training(tmp_path / "padded", *options)
    padded.run()
    packed = make_training(tmp_path / "packed", *options, "model.packing=true")
    packed.run()
    assert [step[:3] for step in packed.steps] == [step[:3] for step in padded.steps]
    np.testing.assert_allclose([step[3] for step in packed.steps], [step[3] for step in padded.steps], rtol=1e-4)
    for name, values in packed.weights().items():
        np.testing.assert_allclose(values, padded.weights()[name], atol=1e-3, err_msg=name)


def test_another_seed_gives_other_weights(make_training, tmp_path):
    from dataclasses import replace

    first, second = make_training(tmp_path / "a"), make_training(tmp_path / "b")
    first.run()
    second.job = replace(second.job, seed=43)
    second.run()
    assert any(not np.array_equal(v, first.weights()[n]) for n, v in second.weights().items())


def test_frozen_encoder_keeps_its_weights_and_thaws_when_told(make_training, tmp_path):
    from agnews_exp.runners.training import new_network

    training = make_training(tmp_path / "a", "model.freeze_encoder=true")
    start = {n: p.detach().numpy().copy() for n, p in new_network(training.job).named_parameters()}
    summary = training.run()
    changed = {n for n, v in training.weights().items() if not np.array_equal(v, start[n])}
    assert changed
    assert not [n for n in changed if n.startswith("encoder.distilbert.")]
    assert summary["n_trainable"] < summary["n_parameters"] / 2
    thawed = make_training(tmp_path / "b", "model.freeze_encoder=true", "model.unfreeze_at_epoch=1")
    thawed.run()
    best = thawed.job.checkpoints.best()[0]
    assert any(n.startswith("encoder.distilbert.") and not np.array_equal(v.numpy(), start[n]) for n, v in best.items())


def test_gradient_accumulation_takes_fewer_steps(make_training, tmp_path):
    plain = make_training(tmp_path / "a").run()
    halved = make_training(tmp_path / "b", "trainer.accumulate_grad_batches=2").run()
    assert (plain["train_steps"], halved["train_steps"]) == (22, 12)


def test_learning_rate_ends_at_zero_at_the_last_step(make_training, tmp_path):
    import json

    make_training(tmp_path, "trainer.max_steps=17").run()
    points = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    rates = {p["step"]: p["curve/learning_rate"] for p in points if "curve/learning_rate" in p}
    assert max(rates) == 17
    assert rates[17] == pytest.approx(0.0, abs=1e-9)
    assert max(rates.values()) == pytest.approx(3e-3, rel=0.2)


@pytest.mark.parametrize("metric", ["log_loss", "f1/Sports"])
def test_the_monitored_metric_is_the_judges_and_its_better_values_keep_the_weights(make_training, tmp_path, metric):
    training = make_training(tmp_path, "trainer.val_check_interval=0.3")
    names, labels = training.job.class_names, training.job.validation.labels
    choice = find_metric(metric, names)
    training.job = replace(training.job, monitor=choice)
    scores = []
    training.run(report=lambda number, score: scores.append(score))
    judged = judge(labels, predictions_of(training.job.checkpoints.best()[1]), names)
    best = max if choice.metric.greater_is_better else min
    assert judged[choice.key] == pytest.approx(best(scores), abs=1e-6)
    points = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    key = f"curve/{choice.stored_as('val', names).replace('/', '_')}"
    shown = [point for point in points if key in point]
    kept = shown[scores.index(best(scores))]
    assert kept[key] == pytest.approx(best(scores))
    for name in ("macro_f1", "accuracy", "log_loss"):
        assert kept[f"curve/val_{name}"] == pytest.approx(judged[name], abs=1e-6)


def test_best_weights_are_those_of_the_best_validation(make_training, tmp_path):
    from agnews_exp.models.inference import TextPredictor
    from agnews_exp.runners.training import new_network

    scores = []
    training = make_training(tmp_path, "trainer.val_check_interval=0.3", "model.ema_decay=0.8")
    training.run(report=lambda number, score: scores.append((number, score)))
    assert [number for number, _ in scores] == list(range(len(scores)))
    weights, answers = training.job.checkpoints.best()
    labels, names = training.job.validation.labels, training.job.class_names
    kept = judge(labels, predictions_of(answers), names)["macro_f1"]
    assert kept == pytest.approx(max(score for _, score in scores), abs=1e-6)
    network = new_network(training.job)
    network.load_state_dict(weights)
    predictor = TextPredictor(network, training.job.tokenizer, names, 24, torch.device("cpu"))
    np.testing.assert_allclose(predictor.logits(training.job.validation.table), answers, atol=1e-4)


def test_early_stopping_ends_the_training(make_training, tmp_path):
    summary = make_training(
        tmp_path,
        "trainer.max_epochs=50",
        "trainer.early_stopping_patience=2",
        "trainer.early_stopping_min_delta=0.9",
        "trainer.limit_train_batches=2",
    ).run()
    assert summary["train_epochs"] <= 5


def test_a_report_that_raises_stops_the_training(make_training, tmp_path):
    from agnews_exp.core.errors import Pruned

    def prune(number, score):
        raise Pruned(number, score)

    training = make_training(tmp_path)
    with pytest.raises(Pruned):
        training.run(report=prune)
    assert {epoch for epoch, *_ in training.steps} == {0}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory_names_the_batch_and_what_to_set(make_training, tmp_path, monkeypatch, error):
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.models.transformer import TextClassifier

    if isinstance(error, MemoryError):
        error = MemoryError("out of memory")

    def failing(self, batch, batch_idx):
        raise error

    monkeypatch.setattr(TextClassifier, "training_step", failing)
    with pytest.raises(ConfigError, match=r"(?s)trainer\.batch_size=16.*16 texts x 24 tokens.*batch_size=8") as caught:
        make_training(tmp_path).run()
    assert "accumulate_grad_batches=2" in str(caught.value)


@pytest.mark.slow
def test_two_processes_follow_the_same_path_as_one(make_training, tmp_path):
    from dataclasses import replace

    from agnews_exp.runners.distributed import other_ranks
    from agnews_exp.runners.training import Listeners, train

    options = (
        "model.dropout=0.0",
        "trainer.batch_size=13",
        "trainer.max_epochs=1",
        "trainer.checkpoint_every_seconds=null",
    )
    alone = make_training(tmp_path / "one", *options)
    alone.run()
    both = make_training(tmp_path / "two", *options)
    both.job = replace(both.job, hardware=replace(both.job.hardware, devices=(0, 1)))
    with other_ranks(both.job) as environment:
        summary = train(both.job, Listeners(), environment)
    assert summary["train_steps"] == 14
    one, two = alone.job.checkpoints.best(), both.job.checkpoints.best()
    assert two[1].shape == (91, 4)  # 91 validation rows: odd, and each answered once
    np.testing.assert_allclose(two[1], one[1], atol=1e-3)
    for name, values in both.weights().items():
        np.testing.assert_allclose(values, alone.weights()[name], atol=1e-3, err_msg=name)


class Unreadable:
    """Something that another process cannot read."""

    def __reduce__(self):
        return int, ("no tokenizer",)


@pytest.mark.slow
def test_failure_of_another_process_is_told_in_its_own_words(make_training, tmp_path):
    from dataclasses import replace

    from agnews_exp.core.errors import AgnewsError
    from agnews_exp.runners.distributed import other_ranks

    training = make_training(tmp_path)
    training.job = replace(training.job, hardware=replace(training.job.hardware, devices=(0, 1)))
    training.job = replace(training.job, tokenizer=Unreadable())
    told = pytest.raises(AgnewsError, match=r"(?s)Process 1 of the training ended with code 1.*no tokenizer")
    with told, other_ranks(training.job):
        pytest.fail("the other process cannot have started")


def test_hardware_that_is_not_there_is_named(make_training, tmp_path):
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.runners.devices import choose_hardware

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    settings = make_training(tmp_path).job.settings.model_copy(update={"accelerator": "gpu"})
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=cuda.*finds no such device"):
        choose_hardware(settings)


def test_bf16_is_chosen_on_a_cpu_only_where_it_is_computed_in_hardware(make_training, tmp_path, monkeypatch):
    from agnews_exp.runners import devices

    settings = make_training(tmp_path).job.settings
    for fast, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(devices, "cpu_has_fast_bf16", lambda fast=fast: fast)
        assert devices.choose_hardware(settings, large=True).precision == expected
        assert devices.choose_hardware(settings, large=False).precision == "32-true"

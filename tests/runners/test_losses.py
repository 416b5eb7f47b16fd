"""Losses, class weights, optimisers and schedules: each is chosen by a word and does what it says."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

from agnews_exp.config.compose import compose_config
from agnews_exp.config.fingerprint import fingerprint
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.models.encoders import build_network
from agnews_exp.models.ngram_linear import NgramLinear
from agnews_exp.models.optimization import (
    Lion,
    MuonAndAdamW,
    SeenByClassifier,
    classification_loss,
    contrastive_loss,
    make_optimizer,
    make_schedule,
    parameter_groups,
)
from agnews_exp.models.recipes import ScratchEncoder, TextCNN
from agnews_exp.runners.rows import class_weights
from agnews_exp.runners.training import largest_that_fits

SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.batch_size=8")
LOGITS = torch.tensor([[4.0, 0.0, 0.0], [0.5, 0.0, 0.3], [0.0, 2.0, 1.0]])
LABELS = torch.tensor([0, 2, 1])


def rare_texts(seed=0, n=1200):
    """Texts of three classes, 90, 9 and 1 % of the rows, whose words overlap."""
    rng = np.random.default_rng(seed)
    words = {"common": "alpha beta gamma", "scarce": "beta delta epsilon", "rare": "gamma epsilon zeta"}
    names = np.repeat(list(words), [round(0.9 * n), round(0.09 * n), n - round(0.9 * n) - round(0.09 * n)])
    noise = [f"word{i}" for i in range(30)]
    rows = [(name, " ".join([*rng.choice(words[name].split(), 4), *rng.choice(noise, 6)])) for name in names]
    return [rows[i] for i in rng.permutation(n)]


@pytest.fixture(scope="module")
def imbalanced(tmp_path_factory, start_project):
    """Return ``score(*overrides) -> test macro-F1`` on the corpus of 90, 9 and 1 %."""
    folder = tmp_path_factory.mktemp("imbalanced")
    for part, seed, n in (("train", 0, 1200), ("test", 1, 2000)):
        lines = [f"{label},{text}" for label, text in rare_texts(seed, n)]
        (folder / f"{part}.csv").write_text("\n".join(["label,text", *lines]))
    run, _ = start_project(
        "data=csv", f"data.train_file={folder}/train.csv", f"data.test_file={folder}/test.csv", "trainer=cpu",
        "tracking=none", "evaluation.latency_repeats=0", "data.duplicate_rows=keep",
    )  # fmt: skip
    return lambda *overrides: run(*overrides).result["metrics"]["test/macro_f1"]


def test_sets_of_classes_have_binary_cross_entropy_and_weights_that_balance_each_class():
    sets = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.5, 0.0, 0.3], [0.0, 2.0, 1.0], [1.0, -1.0, 0.0]])
    chance = torch.sigmoid(logits)
    weights = class_weights("balanced", sets.numpy(), "abc")
    assert weights.tolist() == [1 / 3, 3.0, 1.0]  # nobody has the third
    each = -(sets * torch.log(chance) * torch.tensor(weights) + (1 - sets) * torch.log(1 - chance))
    found = classification_loss(logits, sets, "cross_entropy", weights=logits.new_tensor(weights))
    assert float(found) == pytest.approx(float(each.mean(dim=1).sum()), rel=1e-6)


def test_the_losses_of_rows_are_those_of_their_formulas():
    plain = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    chance = torch.exp(-plain)
    weights = torch.tensor([0.5, 1.0, 3.0])
    same = torch.testing.assert_close
    same(classification_loss(LOGITS, LABELS, "cross_entropy"), plain.sum())
    same(classification_loss(LOGITS, LABELS, "focal", gamma=0.0), plain.sum())
    same(classification_loss(LOGITS, LABELS, "focal", gamma=2.0), ((1 - chance) ** 2 * plain).sum())
    same(classification_loss(LOGITS, LABELS, "cross_entropy", weights=weights), (weights[LABELS] * plain).sum())
    weighted = (weights[LABELS] * (1 - chance) ** 2 * plain).sum()
    same(classification_loss(LOGITS, LABELS, "focal", gamma=2.0, weights=weights), weighted)

    def own(logits, labels):
        return functional.cross_entropy(logits, labels, reduction="none")

    same(classification_loss(LOGITS, LABELS, own, weights=weights), (weights[LABELS] * plain).sum())
    with pytest.raises(ConfigError, match="one loss a row"):
        classification_loss(LOGITS, LABELS, lambda logits, labels: logits.sum())


def test_each_word_is_another_training_and_the_usual_ones_are_the_same_training(make_training, tmp_path):
    def losses(*overrides):
        training = make_training(tmp_path / "-".join(overrides or ["usual"]).replace(".", "_"), *SHORT, *overrides)
        training.run()
        return [step[3] for step in training.steps]

    usual = losses()
    assert losses("loss=cross_entropy", "optimizer=adamw", "scheduler=linear") == usual
    others = [
        losses("loss=focal"),
        losses("loss=label_smoothing"),
        losses("optimizer=adafactor"),
        losses("optimizer=lion"),
        losses("optimizer=muon"),
        losses("loss=supervised_contrastive"),
    ]
    assert all(np.isfinite(steps).all() for steps in others)
    assert len({tuple(steps) for steps in [usual, *others]}) == 7


def test_schedules_warm_up_and_fall_as_they_say(make_training, tmp_path):
    tokenizer = make_training(tmp_path).job.tokenizer

    def rates(schedule):
        recipe = TextCNN(embedding_dim=8, n_filters=8, optimizer="adafactor", schedule=schedule, warmup_ratio=0.1)
        network = build_network(recipe, tokenizer, ("a", "b"))
        optimizer = make_optimizer(recipe.optimizer, parameter_groups(network, recipe), fused=False)
        plan, found = make_schedule(optimizer, recipe, total_steps=100), []
        for _ in range(100):
            found.append(optimizer.param_groups[0]["lr"] / recipe.learning_rate)
            optimizer.step()
            plan.step()
        return np.array(found)

    for schedule in ("linear", "cosine", "constant", "inverse_sqrt", "warmup_stable_decay"):
        found = rates(schedule)
        assert (np.diff(found[:10]) > 0).all(), schedule
        assert found[10] == pytest.approx(1.0, abs=0.1), schedule
    assert (rates("warmup_stable_decay")[[79, 99]] > [0.99, 0.0]).all()
    assert rates("warmup_stable_decay")[99] < 0.05
    assert rates("inverse_sqrt")[40] == pytest.approx(0.5, abs=0.01)


def test_class_weights_are_balanced_or_by_name():
    labels = np.array([0] * 6 + [1] * 3 + [3])
    names = ("a", "b", "never", "1")
    assert class_weights(None, labels, names) is None
    assert class_weights("balanced", labels, names).tolist() == pytest.approx([10 / 18, 10 / 9, 1.0, 10 / 3])
    numbered = check_config(compose_config(["model.class_weight={1:4,a:0.5}"])).run.model.class_weight
    assert class_weights(numbered, labels, names).tolist() == [0.5, 1.0, 1.0, 4.0]
    with pytest.raises(ConfigError, match="class_weight"):
        class_weights({"alpha": 2.0}, labels, names)


def test_weights_that_a_model_has_no_use_for_are_refused_before_any_work():
    for words in (
        ["model=knn", "features=svd"], ["model=distilled_linear", "model.alpha=0"], ["model=distilled_network"],
        ["model=soft_voting"], ["model=linear_neighbors", "features=ngrams"],
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"model\.class_weight=balanced does not fit") as caught:
            check_config(compose_config([*words, "loss=weighted"]))
        assert caught.value.fix == "model.class_weight=null"
    for model, wrong in (
        ("linear_svc", "balansed"), ("linear_svc", "balanced_subsample"), ("multinomial_nb", "balanced_subsample"),
        ("tiny", "balanced_subsample"), ("tiny", "{a:-1}"), ("tiny", "{}"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="class_weight"):
            check_config(compose_config([f"model={model}", f"model.class_weight={wrong}"]))
    forest = ["model=random_forest_100", "model.class_weight=balanced_subsample"]
    assert check_config(compose_config(forest)).run.model.class_weight == "balanced_subsample"


def test_groups_of_networks_are_refused_for_other_models_in_their_own_words():
    for word in ("loss=focal", "loss=supervised_contrastive", "optimizer=muon", "scheduler=cosine"):
        for model in ("linear_svc", "ngram_linear", "multinomial_nb"):
            with pytest.raises(ConfigError, match="say how a network is trained") as caught:
                check_config(compose_config([f"model={model}", word]))
            assert "model.class_weight=balanced" in str(caught.value.fix)


def test_models_that_weigh_rows_get_the_weights_of_their_classes(project):
    from sklearn.naive_bayes import MultinomialNB

    words = ("data=sample", "model=multinomial_nb", "features=bow", "evaluation.latency_repeats=0", "tracking=none")
    answers = []
    for more in ((), ("model.class_weight={Sports:40}",)):
        done = project.run(*words, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        table = pq.read_table(project.run_folders[-1] / "predictions.parquet").to_pandas()
        sports = json.loads((project.run_folders[-1] / "result.json").read_text())["class_names"].index("Sports")
        answers.append((table[table["split"] == "val"]["prediction"] == sports).sum())
    assert answers[1] > answers[0]
    assert not hasattr(MultinomialNB(), "class_weight"), "so the weights went by sample_weight"


def test_an_unknown_loss_names_the_nearest(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="focl") as caught:
        check_config(compose_config(["model=tiny", "model.loss=focl"]))
    assert "focal" in f"{caught.value} {caught.value.fix}"
    with pytest.raises(ConfigError, match=r"model\.loss"):
        check_config(compose_config(["model=tiny", "model.loss=os.system"]))
    with pytest.raises(ConfigError, match=r"model\.student\.loss"):
        check_config(compose_config(["model=distilled_network", "model.student.loss=focal", "model.alpha=0"]))


def test_a_loss_of_the_users_own_is_trained_with_and_its_code_is_part_of_the_identity(
    tmp_path, monkeypatch, make_training
):
    source = (
        "import torch\n\ndef margin(logits, labels):\n"
        "    return torch.nn.functional.multi_margin_loss(logits, labels, reduction='none')\n"
    )
    (tmp_path / "own_losses_a.py").write_text(source)
    (tmp_path / "own_losses_b.py").write_text(source + "# changed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.loss"):
        check_config(compose_config(["model=tiny", "model.loss=own_losses_a.margin"]))
    monkeypatch.setenv("AGNEWS_COMPONENTS", "own_losses_a,own_losses_b")
    training = make_training(tmp_path / "run", *SHORT, "model.loss=own_losses_a.margin")
    training.run()
    assert training.steps[0][3] > 0
    marks = []
    for module in ("own_losses_a", "own_losses_b"):
        plain = check_config(compose_config(["model=tiny", f"model.loss={module}.margin"])).plain
        marks.append(fingerprint({**plain, "model": {**plain["model"], "loss": "own_losses_a.margin"}}, "d"))
        assert fingerprint(plain, "d") != fingerprint({**plain, "model": {**plain["model"], "loss": "focal"}}, "d")
    before = marks[0]
    (tmp_path / "own_losses_a.py").write_text(source + "# changed\n")
    plain = check_config(compose_config(["model=tiny", "model.loss=own_losses_a.margin"])).plain
    assert fingerprint(plain, "d") != before


def test_ngram_linear_learns_more_of_a_class_that_weighs_more():
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(300, 6))).astype(np.float32)
    y = (x[:, 0] + 0.5 * rng.normal(size=300) > 1.8).astype(int)
    answered = [
        int(NgramLinear(class_weight=weight, random_state=0).fit(x, y).predict(x).sum())
        for weight in ({1: 0.2}, None, {1: 5.0})
    ]
    assert answered[0] < answered[1] < answered[2]
    alike = NgramLinear(class_weight={0: 1.0, 1: 1.0}, random_state=0).fit(x, y).coef_
    np.testing.assert_array_equal(alike, NgramLinear(random_state=0).fit(x, y).coef_)


def test_class_weights_find_rare_classes_with_a_linear_model(imbalanced):
    words = ("model=logreg", "features=word_tfidf")
    assert imbalanced(*words, "loss=weighted") > imbalanced(*words) + 0.2  # .97 and .64


@pytest.mark.slow
def test_class_weights_and_the_focal_loss_find_rare_classes_with_a_network(imbalanced):
    words = (
        "model=text_cnn", "model.embedding_dim=16", "model.n_filters=16", "model.max_length=32", "model.vocabulary=400",
        "trainer.max_epochs=4", "trainer.n_jobs=1",
    )  # fmt: skip
    plain = imbalanced(*words)  # .33: the commonest class alone is answered
    assert imbalanced(*words, "loss=weighted") > plain + 0.15  # .63
    assert imbalanced(*words, "loss=focal") > plain + 0.1  # .52


def test_the_contrastive_loss_is_that_of_its_formula_and_looks_at_what_the_classifier_gets():
    vectors = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels, unit = torch.tensor([0, 1, 0, 2, 1, 0]), functional.normalize(vectors, dim=1)
    for i, found in enumerate(contrastive_loss(vectors, labels, 0.3).tolist()):
        others = [j for j in range(6) if j != i]
        total = sum(np.exp(float(unit[i] @ unit[j]) / 0.3) for j in others)
        own = [-np.log(np.exp(float(unit[i] @ unit[j]) / 0.3) / total) for j in others if labels[j] == labels[i]]
        assert found == pytest.approx(np.mean(own) if own else 0.0, rel=1e-5)
    for alone in (vectors[:1], vectors[:2].requires_grad_()):  # no row of the same class
        assert contrastive_loss(alone, labels[: len(alone)], 0.3).tolist() == [0.0] * len(alone)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 3), torch.nn.Tanh())
    seen = SeenByClassifier(network, 3)
    network(vectors)
    torch.testing.assert_close(seen.take(), network[:2](vectors))
    with pytest.raises(ConfigError, match="does not end with a linear layer of 7 classes"):
        SeenByClassifier(network, 7)


def test_muon_has_hidden_matrices_and_adamw_all_else(make_training, tmp_path):
    recipe = ScratchEncoder(
        dim=16, n_layers=1, n_heads=2, hidden_dim=32, vocabulary=300, max_length=16, optimizer="muon"
    )
    network = build_network(recipe, make_training(tmp_path).job.tokenizer, ("a", "b"))
    optimizer = MuonAndAdamW(parameter_groups(network, recipe))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    parts = {True: [], False: []}
    for group in optimizer.param_groups:
        parts["hidden" in group] += [names[id(parameter)] for parameter in group["params"]]
    assert len(parts[True]) == 6, "four of attention, two of the feed-forward layer"
    assert all(name.endswith("weight") and ".layer.0." in name for name in parts[True])
    assert sum(map(len, parts.values())) == len(names)


def test_lion_moves_by_the_sign_of_its_momentum():
    weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    optimizer = Lion([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}])
    weight.grad = torch.tensor([2.0, -3.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.95 - 0.1, -0.95 + 0.1]))
    weight.grad = torch.tensor([-0.01, -3.0])
    optimizer.step()  # the momentum, .02, outweighs the new gradient: .9 * .02 - .1 * .01 > 0
    torch.testing.assert_close(weight.detach(), torch.tensor([0.85 * 0.95 - 0.1, -0.85 * 0.95 + 0.1]))


NOT_A_NUMBER = """
import torch
CALLS = []

def once(logits, labels):
    CALLS.append(len(labels))
    rows = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return rows * float("nan") if len(CALLS) == 5 else rows

def always(logits, labels):
    return logits.sum(1) * float("inf")
"""


def test_a_loss_that_is_no_number_is_located_tried_once_more_and_never_trained_on(tmp_path, monkeypatch, start_project):
    (tmp_path / "bad_losses.py").write_text(NOT_A_NUMBER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AGNEWS_COMPONENTS", "bad_losses")
    run, _ = start_project(
        "data=sample", "data_fraction=0.05", "trainer=cpu", "trainer.n_jobs=1", "trainer.max_epochs=1", "tracking=none",
        "evaluation.latency_repeats=0", "model=text_cnn", "model.vocabulary=300", "trainer.batch_size=auto",
    )  # fmt: skip
    done = run("model.loss=bad_losses.once")
    (note,) = [note for note in done.result["notes"] if "loss" in note]
    assert "The loss is nan in epoch 1, batch 5" in note
    assert "learning_rate=0.0001" in note
    import bad_losses

    assert len(bad_losses.CALLS) == 5 + done.result["metrics"]["train_steps"], "nothing was trained after the fifth"
    assert done.result["metrics"]["batch_size"] == min(32, done.result["data"]["rows"]["train"] // 20)
    with pytest.raises(ConfigError, match=r"The loss is .* in epoch 1, batch 1 \(") as caught:
        run("model.loss=bad_losses.always")
    assert "model.learning_rate=" in caught.value.fix


def test_the_largest_batch_that_fits_is_a_power_of_two_and_bounded():
    asked = []
    assert largest_that_fits(lambda n: asked.append(n) or n <= 100, 1000) == 64
    assert asked == [2, 4, 8, 16, 32, 64, 128]
    assert largest_that_fits(lambda n: True, 50) == 32
    assert largest_that_fits(lambda n: False, 50) == 1
    assert largest_that_fits(lambda n: True, 0) == 1

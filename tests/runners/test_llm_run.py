"""Runs of `model=llm`: through the same entry point, judge, record, comparison, prediction and serving as any model."""

from __future__ import annotations

import csv
import json
import random
import signal
import time
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from chat_server import serving

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.models.llm import load_llm
from agnews_exp.runners.preflight import check_ready

KEY = {"AGNEWS_TEST_KEY": "sk-very-secret"}
TOPICS = {"food": ("bread", "soup"), "sport": ("goal", "match", "coach"), "travel": ("train", "hotel", "ferry")}


def topic(text, _n=1):
    """The class whose words a text holds; of some texts none."""
    if "odd" in text:
        return "I cannot say"
    return next(name for name, words in TOPICS.items() if any(word in text for word in words))


def write_corpus(path, n):
    rng = random.Random(1)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "label"))
        for i in range(n):
            label = list(TOPICS)[i % 3]
            odd = " odd" if i % 20 == 0 else ""
            rows.writerow((f"number {i} {rng.choice(TOPICS[label])} of {rng.choice('abcdefgh')}{odd}", label))


def words(server, *more):
    prices = ("model.price_per_million_tokens.input=1", "model.price_per_million_tokens.output=2")
    model = (
        "model=llm",
        "model.name=stand-in",
        f"model.endpoint={server.address}",
        "model.api_key_env=AGNEWS_TEST_KEY",
    )
    return ["data=csv", "data.train_file=texts.csv", "tracking=none", *model, *prices, *more]


@pytest.fixture(scope="module")
def asked(module_project):
    """A project with a finished run of a prompt, and the server that was asked."""
    write_corpus(module_project.root / "texts.csv", 300)
    with serving(topic) as server:
        refused = module_project.run(*words(server, "model.shots=6"), env=KEY)
        assert refused.returncode == 2
        assert "nothing was sent" in refused.stderr
        assert "fix: model.confirm=true; fewer texts" in refused.stderr
        assert not server.asked
        done = module_project.run(*words(server, "model.shots=6", "model.confirm=true"), env=KEY)
        assert done.returncode == 0, done.stderr
        assert server.keys == {"Bearer sk-very-secret"}
        yield module_project, server, done, module_project.run_folders[-1]


def test_the_validation_and_test_rows_are_asked_once_and_the_training_rows_stay_here(asked):
    project, server, done, run = asked
    result = project.result(run)
    rows = result["data"]["rows"]
    assert sum(server.asked.values()) == len(server.asked) == rows["val"] + rows["test"]
    examples = load_llm(run / "model").examples
    held_back = {text for text, _ in examples}
    assert len(examples) == 6
    assert sorted(label for _, label in examples) == sorted([*TOPICS, *TOPICS])
    assert not held_back & server.asked.keys()
    assert f"{len(server.asked)} texts (validation and test rows) go to 127.0.0.1" in done.stderr


def test_the_record_has_costs_latency_and_what_was_no_class_and_not_the_key(asked):
    project, server, done, run = asked
    result = project.result(run)
    metrics, n = result["metrics"], result["data"]["rows"]
    odd = sum("odd" in text for text in server.asked)
    assert odd > 0
    assert metrics["val/unparsed"] * n["val"] + metrics["test/unparsed"] * n["test"] == pytest.approx(odd)
    assert metrics["test/accuracy"] == pytest.approx(1 - metrics["test/unparsed"])
    assert metrics["tokens_input"] >= 50 * len(server.asked)
    assert metrics["cost_per_1000"] == pytest.approx(1000 * metrics["cost_answers"] / len(server.asked))
    assert 0 < metrics["latency_p50_ms"] <= metrics["latency_p95_ms"]
    assert "test/log_loss" in metrics
    assert "train/macro_f1" not in metrics
    table = pq.read_table(run / "predictions.parquet").to_pydict()
    assert sum(table["unparsed"]) == odd
    columns = (table[name] for name in ("unparsed", "label", "prediction"))
    assert not any(none and label == given for none, label, given in zip(*columns, strict=True))
    assert "answers that are no class" in done.stdout
    assert "for 1,000 texts" in done.stdout
    written = b"".join(p.read_bytes() for p in (project.root / "outputs").rglob("*") if p.is_file())
    assert b"very-secret" not in written + (done.stdout + done.stderr).encode()


@pytest.mark.slow
def test_a_repeated_run_is_remembered_or_answered_from_the_disk(asked):
    project, server, _, run = asked
    before = sum(server.asked.values())
    same = project.run(*words(server, "model.shots=6", "model.concurrency=2", "model.budget=1"))
    assert "Already finished" in same.stdout
    again = project.run(*words(server, "model.shots=6", "force=true", "name=again"))  # no key, nobody who agrees
    assert again.returncode == 0, again.stderr
    assert sum(server.asked.values()) == before
    first, second = (project.result(folder)["metrics"] for folder in (run, project.run_folders[-1]))
    apart = {name for name in first if first[name] != second[name]}
    assert apart <= {"peak_memory_mb", "model_size_mb"}


@pytest.mark.slow
def test_compare_shows_what_a_prompt_and_a_local_model_cost(asked):
    project, _, _, run = asked
    local = project.run("data=csv", "data.train_file=texts.csv", "features=word_tfidf", "tracking=none", "name=local")
    assert local.returncode == 0, local.stderr
    done = project.agnews("compare", str(run), "local", "--price-per-hour", "0.36", "--resamples", "200")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines() if " macro_f1 " in line and "[" in line}
    assert "texts/s" in done.stdout
    assert "cost/1,000 texts" in done.stdout
    costs = project.result(run)["metrics"]["cost_per_1000"]
    assert float(rows["stand-in-text"][-1]) == pytest.approx(costs, rel=1e-3)
    assert 0 < float(rows["local"][-1]) < costs
    wrong = project.agnews("compare", str(run), "local", "--price-per-hour", "-1")
    assert wrong.returncode == 2
    assert "--price-per-hour" in wrong.stderr


def test_predict_asks_before_it_sends_and_says_where_there_is_no_class(asked):
    project, server, _, run = asked
    known = next(text for text in server.asked if "odd" not in text)
    (project.root / "new.txt").write_text(f"{known}\nsoup of the day\nan odd one\n")
    before, run = sum(server.asked.values()), str(run)
    refused = project.agnews("predict", run, "new.txt", env=KEY)
    assert refused.returncode == 2
    assert "2 texts would go to 127.0.0.1" in refused.stderr
    assert "(1 more are answered already and cost nothing)" in refused.stderr
    assert "fix: --confirm" in refused.stderr
    assert project.agnews("predict", run, "new.txt", "--confirm", "--budget", "0").returncode == 2
    assert sum(server.asked.values()) == before
    done = project.agnews("predict", run, "new.txt", "--confirm", "--output", "new.csv", env=KEY)
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader((project.root / "new.csv").open()))
    assert [line["label"] for line in lines] == [topic(known), "food", ""]
    assert sum(server.asked.values()) == before + 2
    offline = project.agnews("predict", run, "new.txt")
    assert [json.loads(line)["label"] for line in offline.stdout.splitlines()] == [topic(known), "food", None]


def test_what_does_not_fit_a_prompt_is_refused_before_anything_is_read():
    here = SimpleNamespace(address="http://127.0.0.1:1/v1")
    for more, said in (
        (["evaluation=cv"], "there is nothing to fit in folds"),
        (["features=word_tfidf"], "reads raw text"),
        (["model.price_per_million_tokens.input=null", "model.budget=3"], "needs the prices"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_ready(check_config(compose_config(words(here, *more))))


@pytest.mark.slow
def test_a_cascade_asks_a_prompt_only_where_it_may(asked):
    project, server, _, run = asked
    before = sum(server.asked.values())
    fast = project.run("data=csv", "data.train_file=texts.csv", "model=multinomial_nb", "features=word_tfidf",
                       "tracking=none", "name=fast")  # fmt: skip
    assert fast.returncode == 0, fast.stderr
    done = project.run("data=csv", "data.train_file=texts.csv", "model=cascade", "model.fast=fast", "tracking=none",
                       f"model.accurate={run}", "model.target=escalation_rate", "model.value=0.5",
                       "name=both")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sum(server.asked.values()) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_in_the_middle_is_gone_on_with_and_nothing_is_asked_twice(project, how):
    write_corpus(project.root / "texts.csv", 400)
    with serving(topic, delay=0.05) as server:
        process = project.start(*words(server, "model.confirm=true", "model.concurrency=2"), env=KEY)
        while len(server.answered) < 30:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode != 0
        ended = len(server.asked)
        assert 30 <= ended < 100
        done = project.run(*words(server, "model.confirm=true"), env=KEY)
        assert done.returncode == 0, done.stderr
        rows = project.result(project.run_folders[-1])["data"]["rows"]
        assert len(server.asked) == rows["val"] + rows["test"] > ended
        under_way = 2 if how == signal.SIGKILL else 0  # what a kill cut off had not been answered
        assert sum(server.asked.values()) <= len(server.asked) + under_way


@pytest.mark.slow
def test_two_jobs_of_one_prompt_at_once_ask_nothing_twice(project):
    write_corpus(project.root / "texts.csv", 300)
    with serving(topic, delay=0.05) as server:
        jobs = [project.start(*words(server, "model.confirm=true", f"seed={seed}"), env=KEY) for seed in (1, 2)]
        for job in jobs:
            said, _ = job.communicate(timeout=200)
            assert job.returncode == 0, said
    assert set(server.asked.values()) == {1}


@pytest.mark.slow
def test_a_local_model_a_network_and_a_prompt_stand_in_one_table(project):
    write_corpus(project.root / "texts.csv", 300)
    data = ["data=csv", "data.train_file=texts.csv", "tracking=none"]
    with serving(topic) as server:
        for more in (["features=word_tfidf", "name=local"], ["model=tiny", "trainer.max_epochs=1", "name=network"]):
            done = project.run(*data, *more)
            assert done.returncode == 0, done.stderr
        assert project.run(*words(server, "model.confirm=true", "name=prompt"), env=KEY).returncode == 0
    done = project.agnews("compare", "local", "network", "prompt", "--price-per-hour", "0.36", "--resamples", "200")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines() if " macro_f1 " in line and "[" in line}
    assert {"local", "network", "prompt"} <= rows.keys()
    for name in ("local", "network", "prompt"):
        *_, speed, cost = rows[name]
        assert float(speed.replace(",", "")) > 0
        assert float(cost) > 0


@pytest.mark.slow
def test_serve_answers_by_a_prompt_and_says_when_its_endpoint_is_gone(asked):
    _, server, _, run = asked
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from agnews_exp.serving.http.app import create_app

    model = load_llm(run / "model")
    model.endpoint.allowed = True
    with TestClient(create_app(model, "prompt")) as client:
        before = sum(server.asked.values())
        answer = client.post("/predict", json={"texts": ["soup for all", "an odd soup"]})
        assert [row["label"] for row in answer.json()["answers"]] == ["food", None]
        assert sum(server.asked.values()) == before + 2
        model.endpoint.allowed = False
        gone = client.post("/predict", json={"texts": ["never asked"]})
        assert gone.status_code == 503
        assert gone.json()["error"] == "unavailable"

"""A language model behind an endpoint: what is sent, what is kept, what is understood, and what goes wrong."""

from __future__ import annotations

import _thread
import json
import math
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from chat_server import reply, serving

from agnews_exp.analyses.efficiency import analyse
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import AgnewsError, ConfigError, ResourceError, StorageError
from agnews_exp.core.text import masked
from agnews_exp.data.corpus import TextRows
from agnews_exp.models import endpoint
from agnews_exp.models.endpoint import Budget, Reply
from agnews_exp.models.llm import (
    DEFAULT_PROMPT,
    Llm,
    LlmModel,
    draw_examples,
    label_probabilities,
    load_llm,
    parse,
    save_llm,
    usage,
)
from agnews_exp.models.loading import load_model

NAMES = ("World", "Sports", "Sci", "Sci/Tech")
PRICES = {"input": 1.0, "output": 2.0}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Make a model of a server; answers are kept in the test's folder, and a second one finds them there."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.setattr(endpoint.random, "uniform", lambda *_: 0.05)

    def make(server, examples=(), *, allowed=True, template=DEFAULT_PROMPT, names=NAMES, **settings):
        given = {"cache_dir": str(tmp_path), "price_per_million_tokens": PRICES, "timeout_s": 5.0} | settings
        made = LlmModel(Llm(server.address, **given), "stand-in", template, names, examples)
        made.endpoint.allowed = allowed
        return made

    return make


def test_the_class_that_is_named_is_the_answer_and_nothing_is_guessed():
    right = ["Sports", " Sports\n", "sports", '"Sports"', "**Sports**.", '{"label": "Sports"}', '{ "label":"sports" }']
    assert [parse(text, NAMES) for text in right] == [1] * len(right)
    assert [parse(text, NAMES) for text in ("Sci", "Sci/Tech", '{"label": "Sci/Tech"}')] == [2, 3, 3]
    wrong = [None, "", "Sport", "I think Sports", "Sports or World", "Tech", '{"label": "Tech"}', '{"label": 1}', "{",
             '{"label": "Sports", "other": 1}', '{"class": "Sports"}', "[" * 100_000, '{"label":' * 5_000]  # fmt: skip
    assert [parse(text, NAMES) for text in wrong] == [None] * len(wrong)
    assert [parse(text, ("US", "us")) for text in ("US", "us", "Us")] == [0, 1, None]


def of_tokens(*places):
    """An answer of tokens, each with the likely ones of its place."""
    return Reply(
        "", "stop", 1, 1, 0.1, 0.1, [(token, [(t, math.log(p)) for t, p in likely]) for token, likely in places]
    )


def test_probabilities_come_from_the_tokens_that_tell_classes_apart():
    start = [("{", [("{", 1.0)]), ('"label": "', [('"label": "', 1.0)])]
    one = of_tokens(*start, ("Sp", [("Sp", 0.6), ("Wor", 0.3), ("x", 0.1)]), ("orts", [("orts", 0.9)]))
    np.testing.assert_allclose(label_probabilities(one, NAMES), [0.325, 0.625, 0.025, 0.025])
    plain = of_tokens((" Sports", [(" Sports", 0.8), ("World", 0.2)]))
    np.testing.assert_allclose(label_probabilities(plain, NAMES), [0.2, 0.8, 0, 0], atol=1e-12)
    # "Sci" begins two names: the next token decides, and what is unlikely there goes to neither.
    ends = [("/", [("/", 0.75), ('"', 0.25)]), ("Tech", [("Tech", 1.0)])]
    both = of_tokens(*start, ("Sci", [("Sci", 0.8), ("World", 0.2)]), *ends)
    np.testing.assert_allclose(label_probabilities(both, NAMES), [0.2, 0, 0.2, 0.6], atol=1e-12)
    merged = of_tokens(("{", [("{", 1.0)]), ('"label": "Wor', [('"label": "Wor', 0.5), ('"label": "Sp', 0.5)]))
    np.testing.assert_allclose(label_probabilities(merged, NAMES), [0.5, 0.5, 0, 0], atol=1e-12)
    for other in (of_tokens(), of_tokens(("I", [("I", 1.0)])), of_tokens((" ", [(" ", 1.0)]))):
        assert label_probabilities(other, NAMES) is None


def test_examples_are_training_rows_alike_for_one_seed_as_many_of_each_class_and_never_judged():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 2, dtype=np.int64)
    rows = TextRows(tuple(f"text {i}" for i in range(82)), labels, np.arange(82))
    one, again, other = (draw_examples(rows, NAMES[:3], 9, seed, ["text 80"]) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one) == 9
    assert {text for text, _ in one} < set(rows.texts) - {"text 80"}
    assert sorted(name for _, name in one).count("Sci") == 1
    assert all(NAMES[labels[int(text.split()[1])]] == name for text, name in one)
    assert draw_examples(rows, NAMES[:3], 0, 1, []) == []
    assert len(draw_examples(rows, NAMES[:3], 500, 1, [])) == 82


def test_a_request_holds_prompt_examples_and_schema_and_a_text_is_no_template(model):
    with serving(lambda *_: "Sports") as server:
        found = model(server, [("a goal", "Sports")]).predict(["odd {labels} {text} {other}"])
        model(server, template="One of {labels}: {text}", json_schema=False, logprobs=False).predict(["b"])
    first, second = server.bodies
    assert [m["role"] for m in first["messages"]] == ["system", "user", "assistant", "user"]
    assert "- Sci/Tech" in first["messages"][0]["content"]
    assert [m["content"] for m in first["messages"][1:]] == [
        "a goal",
        '{"label": "Sports"}',
        "odd {labels} {text} {other}",
    ]
    assert first["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == list(NAMES)
    assert (first["model"], first["temperature"], first["logprobs"]) == ("stand-in", 0.0, True)
    assert second["messages"] == [{"role": "user", "content": "One of - World\n- Sports\n- Sci\n- Sci/Tech: b"}]
    assert not {"response_format", "logprobs"} & second.keys()
    assert server.keys == {"Bearer sk-secret-key"}
    assert found.labels.tolist() == [1]
    assert found.probabilities[0].argmax() == 1


def test_what_passes_is_asked_again_and_waits_as_the_endpoint_says(model):
    started = {}

    def answer(text, n):
        started.setdefault(text, []).append(time.monotonic())
        if n == 1:
            return {
                "429": (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.4"}),
                "429 ms": (429, {}, {"retry-after-ms": "50"}),
                "429 reset": (429, {}, {"x-ratelimit-reset-requests": "60ms"}),
                "500": (500, b"<html>oops</html>", {}),
                "503": (503, {}, {}),
                "half": b'{"choices": [{"mess',
                "wrong JSON": (200, b"{", {}),
                "no protocol": (200, {"hello": 1}, {}),
                "list": (200, [], {}),
                "silence": lambda: time.sleep(0.6) or "World",
            }[text]
        return "Sports"

    texts = ["429", "429 ms", "429 reset", "500", "503", "half", "wrong JSON", "no protocol", "list", "silence"]
    with serving(answer) as server:
        asked = model(server, concurrency=10, timeout_s=0.3)
        assert asked.predict(texts).labels.tolist() == [1] * len(texts)
        assert not asked.predict(texts).unparsed.any()
    assert server.asked == dict.fromkeys(texts, 2)
    assert started["429"][1] - started["429"][0] >= 0.4


def test_a_limit_that_is_used_up_is_waited_for_before_the_endpoint_refuses(model):
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0.3s"}
    with serving(lambda *_: (200, reply("World"), headers)) as server:
        asked = model(server, concurrency=1)
        begin = time.monotonic()
        asked.predict(["a", "b"])
    assert time.monotonic() - begin >= 0.3


def test_what_the_endpoint_does_not_offer_is_left_out_and_the_rest_works(model):
    with serving(lambda *_: "Sports", schema=False, logprobs=False) as server:
        found = model(server, [("temperature logprobs response_format", "World")]).predict(["logprobs", "b", "c"])
        first = len(server.bodies)
        model(server).predict(["d"])
    assert found.labels.tolist() == [1, 1, 1]
    assert found.probabilities is None
    assert first <= 3 * 3
    assert [m["content"] for m in server.bodies[first - 1]["messages"]][2] == "World"

    def strict(text, n):
        for name in ("temperature", "max_tokens"):
            if name in server.bodies[-1]:
                return 400, {"error": {"message": f"Unsupported parameter: '{name}'", "param": name}}, {}
        return "World"

    with serving(strict) as server:
        model(server, concurrency=1).predict(["a"])
    assert server.bodies[-1]["max_completion_tokens"] == 64


def test_what_will_never_be_answered_is_one_line_without_the_key_and_not_asked_again(model):
    cases = [
        (401, {"error": {"message": "Incorrect API key: sk-secret-key"}}, "OPENAI_API_KEY"),
        (404, {"error": {"message": "no model sk-secret-key"}}, "model.name=stand-in"),
        (429, {"error": {"message": "You have no money", "code": "insufficient_quota"}}, "You have no money"),
        (400, {"error": {"message": "sk-secret-key \x1b[2J is odd"}}, "is odd"),
        (302, {}, "302"),
    ]
    for status, body, said in cases:
        with serving(lambda *_, found=(status, body, {"Location": "http://127.0.0.1:1/"}): found) as server:
            with pytest.raises(ConfigError) as caught:
                model(server).predict([f"text of {status}"])
            assert sum(server.asked.values()) == 1, status
        assert said in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "\x1b" not in str(caught.value)
        assert len(caught.value.message.splitlines()) == 1


def test_a_key_that_is_none_and_a_place_that_is_none_are_said_without_the_key(model, monkeypatch):
    with serving(lambda *_: "World") as server:
        gone = model(server)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-sec\nret")
        with pytest.raises(ConfigError) as caught:
            model(server).predict(["a"])
        assert "ret" not in str(caught.value)
        monkeypatch.delenv("OPENAI_API_KEY")
        model(server).predict(["a"])
        assert server.keys == {None}
    with pytest.raises(ResourceError, match="cannot be reached"):
        gone.predict(["b"])


def test_an_endpoint_that_gives_up_ends_the_run_and_keeps_what_was_answered(model):
    with serving(lambda text, _: "World" if text < "e" else (500, {}, {})) as server:
        with pytest.raises(ResourceError, match=r"no answer: HTTP 500.*\(3 attempts\)") as caught:
            model(server, retries=2, concurrency=1).predict(list("abcdef"))
        assert "asks nothing twice" in caught.value.fix
        server.answer = lambda *_: "Sports"
        assert model(server).predict(list("abcdef")).labels.tolist() == [0] * 4 + [1] * 2
    assert server.answered == dict.fromkeys("abcdef", 1)
    tomorrow = (429, {}, {"Retry-After": "86400"})
    with serving(lambda *_: tomorrow) as server, pytest.raises(ResourceError, match="86,400 s"):
        model(server).predict(["z"])


def test_refusals_of_one_text_and_answers_that_are_no_class_are_an_outcome_of_their_own(model):
    filtered = (400, {"error": {"message": "no", "code": "content_filter"}}, {})
    answers = {"filtered": filtered, "too long": (413, {}, {}), "other": "Weather", "none": (200, reply(None), {}),
               "cut": (200, reply("Sports", finish="length"), {}), "fine": "Sci/Tech"}  # fmt: skip
    with serving(lambda text, _: answers[text]) as server:
        found = model(server).predict(list(answers))
        again = model(server).predict(list(answers))
    assert found.unparsed.tolist() == again.unparsed.tolist() == [True] * 5 + [False]
    assert set(server.asked.values()) == {1}
    assert found.labels[5] == 3
    np.testing.assert_allclose(found.probabilities[:5], 0.25)
    truth = np.array([0, 1, 2, 3, 0, 3])
    judged = found.counted_wrong(truth, 4)
    assert (judged.labels == truth).tolist() == [False] * 5 + [True]


def test_every_answer_is_kept_under_endpoint_model_prompt_and_text(model):
    with serving(lambda text, _: "World") as server:
        one = model(server)
        one.predict(["a", "b", "a", "a\ud800"])
        model(server, concurrency=1, budget=5.0, allowed=False).predict(["a", "b"])
        assert server.asked == {"a": 1, "b": 1, "a\ud800": 1}
        model(server, [("x", "World")]).predict(["a"])
        model(server, template="{labels} {text}").predict(["a"])
        model(server, names=NAMES[:3]).predict(["a"])
        model(server, temperature=0.5).predict(["a"])
        assert server.asked["a"] + server.asked["World a"] >= 3
        assert len(server.bodies) == 7
    offline = model(server, allowed=False)  # the server is gone
    assert offline.predict(["a", "b"]).labels.tolist() == [0, 0]
    with pytest.raises(ConfigError, match=r"1 texts would be sent to 127\.0\.0\.1.*nothing was sent"):
        offline.predict(["a", "new"])


def test_the_budget_is_never_exceeded_and_a_larger_one_goes_on(model):
    texts = [f"text number {i}" for i in range(60)]
    with serving(lambda *_: "World", delay=0.002) as server:
        small = model(server, budget=0.003, concurrency=7)
        with pytest.raises(ConfigError, match=r"budget of 0\.003 would be exceeded.*kept") as caught:
            small.predict(texts)
        assert "goes on" in caught.value.fix
        known = small.endpoint.known(texts)
        assert 0.0 < small.endpoint.cost(known.values()) <= 0.003
        assert 5 < len(known) == len(server.asked) < 60
        with pytest.raises(ConfigError, match="would be exceeded"):
            model(server, budget=0.003).predict(texts)  # what was spent before counts
        assert len(server.asked) == len(known)
        model(server, budget=1.0).predict(texts)
    assert server.asked == dict.fromkeys(texts, 1)


def test_an_endpoint_that_does_not_count_tokens_is_charged_the_most_that_they_can_be(model):
    with serving(lambda *_: (200, {"choices": reply("World")["choices"]}, {})) as server:
        one = model(server, budget=0.004, concurrency=1)
        with pytest.raises(ConfigError, match="would be exceeded"):
            one.predict([f"text {i}" for i in range(100)])
        assert 0 < len(server.asked) <= 0.004 / (one.endpoint.bytes_of("text 1") / 1e6)
    assert next(iter(one.endpoint.known(["text 0"]).values())).input_tokens > 50


def test_an_interrupted_call_keeps_what_is_under_way_and_asks_nothing_twice(model, request):
    texts = [f"text {i}" for i in range(40)]

    # A script's background job ignores SIGINT, and then nothing would interrupt.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with serving(lambda *_: "World", delay=0.02) as server:
        one = model(server, concurrency=4)
        kept, interrupt = one.endpoint.cache.keep, iter([_thread.interrupt_main])

        def keep(key, found):
            kept(key, found)
            if len(server.answered) >= 12:
                next(interrupt, bool)()

        one.endpoint.cache.keep = keep
        with pytest.raises(KeyboardInterrupt):
            one.predict(texts)
        assert 12 <= len(server.answered) < 40
        model(server).predict(texts)
    assert server.asked == dict.fromkeys(texts, 1)


def test_nobody_is_asked_twice_and_no_is_no(model, monkeypatch, capsys):
    with serving(lambda *_: "World") as server:
        one = model(server, [("x", "World")], allowed=False)
        with pytest.raises(
            ConfigError, match=r"2 texts would go to 127.*model stand-in, 1 training texts.*nothing"
        ) as no:
            one.agree(["a", "b", "a"], confirm=False, how="--yes")
        assert no.value.fix == "--yes"
        answers = StringIO("n\ny\n")
        answers.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", answers)
        with pytest.raises(ConfigError):
            one.agree(["a", "b"], confirm=False, how="--yes")
        one.agree(["a", "b"], confirm=False, how="--yes")
        asked = capsys.readouterr().err
        assert asked.count("Send them? [y/N]") == 2
        assert "at 1 and 2 per million tokens" in asked
        assert not server.asked
        one.predict(["a", "b"])
        model(server, [("x", "World")], allowed=False).agree(["a", "b"], confirm=False, how="")  # nothing to send
        assert not capsys.readouterr().err
        model(server, price_per_million_tokens=None).agree(["c"], confirm=True, how="")
        assert "unknown cost" in capsys.readouterr().err


def test_tokens_money_and_seconds_are_measured_and_the_same_from_the_disk(model):
    with serving(lambda *_: "World", delay=0.02) as server:
        texts = list("abcdefgh")
        found = [usage(m, m.endpoint.answer(texts)) for m in (model(server, concurrency=2) for _ in range(2))]
    assert found[0] == found[1]
    assert found[0]["tokens_input"] == 400
    assert found[0]["cost_answers"] == pytest.approx((400 * 1 + 40 * 2) / 1e6)
    assert found[0]["cost_per_1000"] == pytest.approx(0.06)
    assert 20 < found[0]["latency_p50_ms"] <= found[0]["latency_p95_ms"]
    assert 2 < found[0]["throughput_batch"] < 100


def test_a_saved_model_is_the_same_without_key_and_without_consent(model, tmp_path):
    with serving(lambda *_: "World") as server:
        one = model(server, [("ein Tor", "Sports")], confirm=True, budget=3.0)
        save_llm(one, tmp_path / "model")
        other = load_model(tmp_path / "model")
        assert (other.family, other.class_names, other.template) == ("llm", NAMES, one.template)
        assert other.endpoint.key("a") == one.endpoint.key("a")
        assert not other.endpoint.allowed
        assert not other.settings.confirm
        assert "secret" not in "".join(p.read_text() for p in (tmp_path / "model").iterdir())
        with pytest.raises(ConfigError, match="nothing was sent"):
            other.predict(["a"])
    file = tmp_path / "model" / "manifest.json"
    content = json.loads(file.read_text())
    (tmp_path / "model" / "llm.json").write_text('{"settings": {"endpoint": "file:///etc/passwd"}}')
    content["sha256"] = {}
    file.write_text(json.dumps(content))
    with pytest.raises(StorageError):
        load_llm(tmp_path / "model")


def test_a_damaged_cache_is_said_with_its_name(model, tmp_path):
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "answers.sqlite").write_bytes(b"no database " * 1000)
    with serving(lambda *_: "World") as server, pytest.raises(StorageError, match=r"answers\.sqlite"):
        model(server).predict(["a"])


def test_settings_that_cannot_work_are_refused_before_anything_is_read(tmp_path):
    prompt = tmp_path / "prompt.txt"
    for text, said in (
        ("{text}", "must hold"),
        ("{labels} {lables} {text}", "'lables'"),
        (b"\xff{text}", "cannot be read"),
    ):
        prompt.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError, match=said):
            Llm("http://here/v1", prompt=str(prompt)).check()
    for settings, said in (
        ({"endpoint": None}, "address of an endpoint"),
        ({"endpoint": "ftp://host/v1"}, "address of an endpoint"),
        ({"endpoint": "http:///v1"}, "address of an endpoint"),
        ({"endpoint": "http://h", "budget": 1.0}, "needs the prices"),
        ({"endpoint": "http://h", "api_key_env": "0f1e2d3c4b5a"}, "it may be a key"),
        ({"endpoint": "http://h", "price_per_million_tokens": {"inptu": 1.0}}, "'inptu'"),
        ({"endpoint": "http://h", "prompt": str(tmp_path / "none.txt")}, "cannot be read"),
    ):
        with pytest.raises(AgnewsError, match=said):
            Llm(**settings).check()
    Llm("https://here/v1", budget=1.0, price_per_million_tokens=PRICES).check()


def test_a_key_in_the_configuration_is_refused_without_being_repeated():
    key = "sk-proj-" + "a1B2" * 8
    for override in (f"model.api_key_env={key}", f"name={key}", f"+model.api_key={key}"):
        with pytest.raises(ConfigError) as caught:
            check_config(compose_config(["data=sample", "model=llm", override]))
        assert "a1B2" not in str(caught.value)
        assert "OPENAI_API_KEY" in caught.value.fix
    for plain in ("a risk-taking-and-unending-word", "sk-Newspapers-and-magazines-2020.csv"):
        assert masked(plain) == plain


def test_the_speed_of_answers_on_the_disk_is_not_measured(model):
    with serving(lambda *_: "World") as server:
        context = SimpleNamespace(model=model(server))
        with pytest.raises(ConfigError, match="those of the run that asked it"):
            analyse(context)


def test_requests_that_are_under_way_count_for_the_budget_at_their_most():
    budget, stop = Budget(10.0, 1.0), threading.Event()
    assert budget.reserve(6.0, stop)
    waiting = ThreadPoolExecutor(1).submit(budget.reserve, 6.0, stop)
    time.sleep(0.1)
    assert not waiting.done()
    budget.settle(6.0, 2.0)  # it cost less: there is room again
    assert waiting.result(timeout=10)
    stop.set()
    assert not budget.reserve(6.0, stop)

"""The HTTP application, driven through ASGI: answers, limits, refusals, batches."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="needs the extra serve")
import uvicorn

from agnews_exp.evaluation.costs import Decision
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.serving.http import app
from agnews_exp.serving.http.app import Batcher, create_app
from agnews_exp.serving.http.limits import ServeSettings

NAMES = ("Business", "Sports")


class Model:
    """Answers by the number of words; notes that it was asked, and the batches that it answered; can be held up."""

    family = "classical"
    class_names = NAMES

    def __init__(self):
        self.batches = []
        self.asked, self.open = threading.Event(), threading.Event()
        self.open.set()

    def predict(self, texts):
        self.asked.set()
        self.open.wait(60)
        if "boom" in texts:
            raise RuntimeError("the model broke")
        self.batches.append(list(texts))
        share = np.array([min(len(t.split()), 9) / 10 for t in texts])
        return Predictions((share > 0.5).astype(np.int64), None, np.column_stack([1 - share, share]))


@dataclass
class Response:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


async def call(app, path="/predict", body=b"", method="POST", headers=(), chunks=None):
    sent = []
    parts = [body] if chunks is None else chunks
    messages = [{"type": "http.request", "body": p, "more_body": i < len(parts) - 1} for i, p in enumerate(parts)]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [(k.encode(), v.encode()) for k, v in headers], "http_version": "1.1", "scheme": "http"}
    scope |= {"asgi": {"version": "3.0"}, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": ""}
    await app(scope, receive, send)
    start = sent[0]
    content = b"".join(m.get("body", b"") for m in sent[1:])
    return Response(start["status"], {k.decode().lower(): v.decode() for k, v in start["headers"]}, content)


def ask(texts, **more):
    return json.dumps({"texts": texts, **more}).encode()


def answered(body, settings=None, model=None, **options):
    async def run():
        return await call(create_app(model or Model(), "m", settings), body=body, **options)

    return asyncio.run(run())


def test_a_request_gets_its_texts_answers_in_order():
    reply = answered(ask(["a", "a b c d e f g"], top_k=2, probabilities=True))
    assert reply.status == 200
    assert [a["label"] for a in reply.json["answers"]] == ["Business", "Sports"]
    assert reply.json["answers"][1] == {
        "label": "Sports",
        "confidence": 0.7,
        "top": [{"label": "Sports", "confidence": 0.7}, {"label": "Business", "confidence": 0.3}],
        "confidences": {"Business": 0.3, "Sports": 0.7},
    }
    assert len(reply.headers["x-request-id"]) == 16


def test_sets_of_classes_are_answered_where_the_server_has_thresholds():
    async def run():
        return await call(create_app(Model(), "m", sets=(0.75, 0.75)), body=ask(["a", "a b c"]))

    assert [a["set"] for a in asyncio.run(run()).json["answers"]] == [["Business"], ["Business", "Sports"]]


def test_a_rule_chosen_by_costs_gives_the_label_and_stands_in_the_description():
    decision = Decision("threshold", np.array([[0.0, 1.0], [9.0, 0.0]]), 0.2)

    async def run():
        app = create_app(Model(), "m", decision=decision)
        return await call(app, body=ask(["a", "a b c"])), await call(app, "/model", method="GET")

    answers, described = asyncio.run(run())
    assert [(a["label"], a["confidence"]) for a in answers.json["answers"]] == [("Business", 0.9), ("Sports", 0.3)]
    assert [a["label"] for a in answered(ask(["a", "a b c"])).json["answers"]] == ["Business"] * 2
    assert described.json["decision"] == "'Sports' from a probability of 0.2 on"


def test_requests_that_come_while_the_model_works_are_answered_in_one_batch():
    model = Model()

    async def run():
        app = create_app(model, "m", ServeSettings(batch_size=4))
        model.open.clear()
        calls = [asyncio.create_task(call(app, body=ask(["w"])))]
        await asyncio.to_thread(model.asked.wait, 60)
        calls += [asyncio.create_task(call(app, body=ask(["w " * i]))) for i in range(2, 8)]
        await asyncio.sleep(0.1)
        model.open.set()
        return await asyncio.gather(*calls)

    replies = asyncio.run(run())
    assert [r.json["answers"][0]["confidence"] for r in replies] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.6, 0.7]
    assert [len(b) for b in model.batches] == [1, 4, 2]


def test_requests_of_several_texts_in_one_batch_each_get_their_own_answers():
    model = Model()
    sizes = [[3], [2, 7], [1, 8, 4], [6], [9, 5, 2, 1]]

    async def run():
        app = create_app(model, "m", ServeSettings(batch_size=100))
        model.open.clear()
        calls = [asyncio.create_task(call(app, body=ask(["first"])))]
        await asyncio.to_thread(model.asked.wait, 60)
        calls += [
            asyncio.create_task(call(app, body=ask(["w " * n for n in words], probabilities=True))) for words in sizes
        ]
        await asyncio.sleep(0.05)
        calls[2].cancel()  # its client has gone before its texts were taken
        model.open.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    replies = asyncio.run(run())[1:]
    assert [len(batch) for batch in model.batches][-1] in (sum(map(len, sizes)), sum(map(len, sizes)) - 2)
    for words, reply in zip(sizes, replies, strict=True):
        if words != sizes[1]:
            assert [answer["confidences"]["Sports"] for answer in reply.json["answers"]] == [n / 10 for n in words]
            assert [answer["label"] for answer in reply.json["answers"]] == [NAMES[n > 5] for n in words]


def test_a_client_that_goes_while_its_texts_are_answered_moves_nobody_s_answers():
    taken, gone = threading.Event(), threading.Event()

    def answer(texts):
        taken.set()
        gone.wait(10)
        return Model().predict(texts)

    async def run():
        batcher = Batcher(answer, batch_size=100, max_waiting=100)
        calls = [asyncio.create_task(batcher.answer(["w " * n for n in words])) for words in ([3], [1, 9], [2, 7])]
        await asyncio.to_thread(taken.wait, 10)
        calls[1].cancel()
        await asyncio.sleep(0)
        gone.set()
        found = [await call for call in (calls[0], calls[2])]
        batcher.close()
        return [answers.probabilities[:, 1].tolist() for answers in found]

    assert asyncio.run(run()) == [[0.3], [0.2, 0.7]]


def test_more_requests_than_may_wait_are_told_to_come_again():
    model = Model()

    async def run():
        app = create_app(model, "m", ServeSettings(max_waiting=2))
        model.open.clear()
        calls = [asyncio.create_task(call(app, body=ask(["a"]))) for _ in range(5)]
        await asyncio.sleep(0.1)
        model.open.set()
        return await asyncio.gather(*calls)

    replies = asyncio.run(run())
    assert sorted(r.status for r in replies) == [200, 200, 503, 503, 503]
    assert next(r for r in replies if r.status == 503).headers["retry-after"] == "1"


def test_a_model_that_takes_too_long_is_a_timeout_and_the_next_request_is_answered():
    model = Model()

    async def run():
        app = create_app(model, "m", ServeSettings(timeout_s=0.1))
        model.open.clear()
        late = await call(app, body=ask(["a"]))
        model.open.set()
        return late, await call(app, body=ask(["a"]))

    late, good = asyncio.run(run())
    assert (late.status, good.status) == (504, 200)
    assert late.json["error"] == "timeout"


def test_a_model_that_fails_is_a_500_without_its_words_and_the_next_request_is_answered():
    async def run():
        app = create_app(Model(), "m")
        return await call(app, body=ask(["boom"])), await call(app, body=ask(["a"]))

    broken, good = asyncio.run(run())
    assert (broken.status, good.status) == (500, 200)
    assert b"broke" not in broken.body


LIMITS = ServeSettings(max_body_bytes=200, max_texts=3, max_characters=20)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 422, "JSON"),
        (b"{", 422, "JSON"),
        (b"\xff\xfe", 422, "JSON"),
        (b"null", 422, "object"),
        (b"[]", 422, "object"),
        (b"{}", 422, "texts"),
        (b'{"texts": []}', 422, "texts"),
        (b'{"texts": "a"}', 422, "texts"),
        (b'{"texts": [1]}', 422, "texts.0"),
        (b'{"texts": [null]}', 422, "texts.0"),
        (b'{"texts": ["a"], "top": 2}', 422, "top"),
        (b'{"texts": ["a"], "top_k": 0}', 422, "top_k"),
        (b'{"texts": ["a"], "top_k": "2"}', 422, "top_k"),
        (b'{"texts": ["\\ud800"]}', 422, "JSON"),
        (b"[" * 190, 422, ""),
        (ask(["a"] * 4), 413, "4 texts"),
        (ask(["a" * 21]), 413, "21 characters"),
        (ask(["a" * 300]), 413, "200 bytes"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(body, status, words):
    reply = answered(body, LIMITS)
    assert reply.status == status
    assert words in reply.json["detail"]
    assert reply.json["error"] == ("too_large" if status == 413 else "invalid")


def test_a_body_in_parts_is_cut_off_at_the_limit_whatever_its_length_header_says():
    reply = answered(b"", LIMITS, chunks=[b"x" * 100] * 5, headers=[("content-length", "10")])
    assert reply.status == 413


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Basic secret", "secret", "Bearer secretX"])
def test_without_the_token_nothing_is_answered_but_the_probes(given):
    settings = ServeSettings(token="secret")
    headers = [] if given is None else [("authorization", given)]
    refused = answered(ask(["a"]), settings, headers=headers)
    assert (refused.status, refused.json["error"]) == (401, "unauthorised")
    assert "Authorization: Bearer <token>" in refused.json["detail"]
    assert answered(b"", settings, path="/metrics", method="GET", headers=headers).status == 401
    assert answered(b"", settings, path="/health", method="GET", headers=headers).status == 200


def test_with_the_token_requests_are_answered():
    for given in ("Bearer secret", "bearer secret", "BEARER secret"):
        headers = [("authorization", given)]
        assert answered(ask(["a"]), ServeSettings(token="secret"), headers=headers).status == 200, given


def test_a_connection_that_asks_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(app, "IDLE_SECONDS", 0.1)
    config = uvicorn.Config(lambda scope: None, http=app.Impatient, log_config=None)

    async def wait_silently():
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: app.Impatient(config, state, {}), "127.0.0.1", 0)
        for begun in (b"", b"POST /predict HTTP/1.1\r\nhost:"):  # nothing at all, and headers without an end
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        server.close()

    asyncio.run(wait_silently())


def test_unknown_paths_and_methods_are_refused_as_json():
    assert answered(b"", path="/nope", method="GET").status == 404
    refused = answered(b"", path="/predict", method="DELETE")
    assert refused.status == 405
    assert "/predict" in refused.json["detail"]


def test_metrics_count_requests_texts_and_batches():
    async def run():
        app = create_app(Model(), "m")
        await call(app, body=ask(["a", "b"]))
        await call(app, body=b"{")
        return await call(app, "/metrics", method="GET")

    text = asyncio.run(run()).body.decode()
    assert 'agnews_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'agnews_requests_total{path="/predict",status="422"} 1.0' in text
    assert "agnews_texts_total 2.0" in text


def test_the_description_names_the_request_the_response_and_the_refusals():
    described = answered(b"", path="/openapi.json", method="GET").json
    operation = described["paths"]["/predict"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["required"] == ["texts"]
    assert {"200", "401", "413", "422", "503", "504"} <= set(operation["responses"])


def test_the_description_names_the_limits_of_this_server():
    described = answered(b"", ServeSettings(max_texts=3, max_characters=7), path="/openapi.json", method="GET").json
    body = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["texts"]["maxItems"] == 3
    assert body["properties"]["texts"]["items"]["maxLength"] == 7


@pytest.mark.parametrize(("top_k", "status"), [("2.0", 200), ("2", 200), ("2.5", 422), ("true", 422), ('"2"', 422)])
def test_a_whole_number_is_one_however_json_writes_it(top_k, status):
    reply = answered(b'{"texts": ["one two"], "top_k": ' + top_k.encode() + b"}")
    assert reply.status == status
    if status == 200:
        assert len(reply.json["answers"][0]["top"]) == 2


def test_a_server_is_ready_only_after_its_first_answer():
    model = Model()

    async def run():
        app = create_app(model, "m")
        before = await call(app, "/ready", method="GET")
        events = [{"type": "lifespan.startup"}]
        ended = asyncio.Event()
        started = asyncio.Event()

        async def receive():
            if events:
                return events.pop()
            await ended.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message):
            if message["type"] == "lifespan.startup.complete":
                started.set()

        life = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
        await started.wait()
        after = await call(app, "/ready", method="GET")
        ended.set()
        await life
        return before.status, after.status

    assert asyncio.run(run()) == (503, 200)
    assert model.batches == [["warm up"]]

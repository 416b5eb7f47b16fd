"""Requests of any content to the server: an answer or a refusal, never a failure of the server."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("prometheus_client", reason="needs the extra serve")
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from agnews_exp.models.loading import ClassicalModel
from agnews_exp.ngrams import TfidfVectorizer
from agnews_exp.serving.http.app import create_app
from agnews_exp.serving.http.limits import ServeSettings

TEXTS = ["goal in the final", "bank profit rises", "coach and goal", "profit of the bank falls"] * 3
HTML = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def model():
    pipeline = Pipeline([("features", TfidfVectorizer()), ("model", LogisticRegression())])
    return ClassicalModel(pipeline.fit(TEXTS, np.array([0, 1] * 6)), ("Sports", HTML))


async def call(app, method, path, body, headers=()):
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode("utf-8", "replace")}
    scope |= {"query_string": b"", "headers": list(headers), "http_version": "1.1", "scheme": "http", "root_path": ""}
    await app(scope | {"asgi": {"version": "3.0"}, "server": ("h", 80), "client": ("h", 1)}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:])


def asked(model, body, method="POST", path="/predict", headers=(), **limits):
    async def run():
        return await call(create_app(model, "m", ServeSettings(**limits)), method, path, body, headers)

    return asyncio.run(run())


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
requests = st.fixed_dictionaries(
    {"texts": st.lists(st.text(max_size=30), min_size=1, max_size=4) | values},
    optional={"top_k": st.integers() | values, "probabilities": st.booleans() | values, "other": values},
)


@settings(max_examples=120, deadline=None)
@given(body=(requests | values).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"texts": ["' + b"\\ud800" + b'"]}')
@example(b'{"texts": ["a"], "top_k": ' + b"9" * 5000 + b"}")
@example(b'{"texts": ["\\u0000"]}')
def test_a_body_of_any_content_is_answered_or_refused(model, body):
    status, headers, reply = asked(model, body)
    assert status in (200, 413, 422)
    content = json.loads(reply)
    assert set(content) == ({"model", "answers"} if status == 200 else {"error", "detail"})
    assert headers[b"content-type"] == b"application/json"


@settings(max_examples=80, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "X"]),
    path=st.sampled_from(["/predict", "/model", "/metrics", "/health", "/docs", "/openapi.json"])
    | st.text().map("/".__add__),
    headers=st.lists(
        st.tuples(st.sampled_from([b"content-length", b"authorization", b"host", b"x"]), st.binary(max_size=30)),
        max_size=3,
    ),
    token=st.none() | st.just("secret"),
)
@example("POST", "/predict", [(b"content-length", b"9" * 5000)], None)
@example("GET", "/../../etc/passwd", [], None)
def test_any_path_and_header_is_answered_or_refused(model, method, path, headers, token):
    status, _, _ = asked(model, b"{}", method, path, headers, token=token)
    # Nobody has started this application's life, so /ready truly is not.
    assert status < 500 or path == "/ready"
    if token and path in ("/predict", "/model", "/metrics"):
        assert status == 401


def test_html_in_texts_and_class_names_comes_back_as_json_only(model):
    body = json.dumps({"texts": [HTML], "top_k": 2, "probabilities": True}).encode()
    status, headers, reply = asked(model, body)
    assert status == 200
    assert headers[b"content-type"] == b"application/json"
    assert HTML in {answer["label"] for answer in json.loads(reply)["answers"][0]["top"]}

"""The gate before the application: limits of a request, token, request ids, access log, metrics."""

from __future__ import annotations

import hmac
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agnews_exp.core.errors import MissingDependencyError


class ServeSettings(BaseModel):
    """Limits of a server; every request is inside all of them or refused with the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(1 << 20, ge=1)  # of a request
    max_texts: int = Field(256, ge=1)  # of a request
    max_characters: int = Field(100_000, ge=1)  # of a text
    max_waiting: int = Field(512, ge=1)  # requests at work or waiting; the next gets 503
    timeout_s: float = Field(30.0, gt=0)  # a request that takes longer gets 504
    batch_size: int = Field(64, ge=1)  # texts that the model answers at once
    drain_s: float = Field(30.0, gt=0)  # time that accepted requests have to end after SIGTERM
    # Bearer token that every request for answers must carry; None asks for none.
    token: str | None = Field(None, min_length=1)


def _whole(value: Any) -> Any:
    """Return 2 for 2.0: JSON has one kind of number, and JSON Schema calls both an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PredictRequest(BaseModel):
    """The body of ``POST /predict``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str] = Field(min_length=1, description="the texts to answer")
    top_k: Annotated[int, BeforeValidator(_whole)] = Field(1, ge=1, le=1000, description="so many most likely classes")
    probabilities: bool = Field(False, description="every class' confidence")


class Answer(BaseModel):
    """The answer for one text."""

    label: str | None = Field(None, description="the class; null where a language model's answer is none")
    labels: list[str] | None = Field(None, description="in its place, of models of several classes a text: the classes")
    confidence: float | list[float] | None = Field(
        None, description="in [0, 1], of sets one a class; absent for models that give labels only"
    )
    top: list[dict[str, str | float]] | None = Field(None, description="the top_k classes with their confidences")
    confidences: dict[str, float] | None = Field(None, description="by class")
    set: list[str] | None = Field(None, description="classes that hold the right one as often as --sets promises")


class PredictResponse(BaseModel):
    """The answer of ``POST /predict``."""

    model: str
    answers: list[Answer]


class Problem(BaseModel):
    """The body of every refusal."""

    error: str
    detail: str


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of requests in a registry of their own; paths that are not told apart count as ``other``.

    Raises:
        MissingDependencyError: prometheus_client is not installed.
    """

    def __init__(self, paths: frozenset[str], waiting: Callable[[], int]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingDependencyError(
                "agnews serve needs prometheus-client, which is not installed.", fix="pip install 'agnews-exp[serve]'"
            ) from error
        self.paths = paths
        self._registry = CollectorRegistry()
        self._requests = Counter("agnews_requests", "Requests.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "agnews_request_seconds", "Time of a request.", ["path"], buckets=_SECONDS, registry=self._registry
        )
        self._texts = Counter("agnews_texts", "Texts answered.", registry=self._registry)
        self._batches = Histogram("agnews_batch_texts", "Texts in a batch.", buckets=_TEXTS, registry=self._registry)
        gauge = Gauge("agnews_requests_waiting", "Requests at work or waiting.", registry=self._registry)
        gauge.set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, texts: int) -> None:
        """Count a batch."""
        self._batches.observe(texts)
        self._texts.inc(texts)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self._registry))


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("agnews.access")
OPEN_PATHS = frozenset({"/health", "/ready", "/docs", "/openapi.json"})
"""Asked without a token: by probes and by people who read the documentation."""


class _TooLargeError(Exception):
    pass


@dataclass(frozen=True)
class Reply:
    """An HTTP response: status, headers, body."""

    status: int  # HTTP status
    body: bytes  # JSON
    headers: tuple[tuple[str, str], ...] = ()  # beyond content type and length

    @classmethod
    def problem(cls, status: int, error: str, detail: str, *headers: tuple[str, str]) -> Reply:
        """Return the response that refuses a request."""
        return cls(status, json.dumps({"error": error, "detail": detail}).encode(), headers)

    async def send(self, send: Send) -> None:
        """Send the response."""
        fields = (("content-type", "application/json"), ("content-length", str(len(self.body))), *self.headers)
        raw = [(name.encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.body})


Endpoint = Callable[[bytes], Awaitable[Reply]]


class Gate:
    """ASGI application before the application: refuses requests that are too large or not allowed, and logs every one.

    What ``direct`` has by method and path is answered here from the body alone, without the application.
    """

    def __init__(
        self, app: App, direct: Mapping[tuple[str, str], Endpoint], settings: ServeSettings, metrics: Metrics
    ) -> None:
        self._app = app
        self._direct = direct
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = uuid.uuid4().hex[:16]
        status = 500
        sent = False

        async def note(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status, sent = message["status"], True
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._guarded(scope, receive, note)
        except _TooLargeError:
            limit = self._settings.max_body_bytes
            await Reply.problem(413, "too_large", f"a request may have {limit:,} bytes").send(note)
        except Exception:
            logging.getLogger("agnews.serve").exception("request %s failed", request_id)
            if not sent:
                await Reply.problem(500, "internal", f"see the server's log for request {request_id}").send(note)
        finally:
            seconds = time.perf_counter() - start
            path = scope["path"] if scope["path"] in self._metrics.paths else "other"
            self._metrics.request(path, status, seconds)
            if log.isEnabledFor(logging.INFO):
                entry = {"request": request_id, "method": scope["method"], "path": scope["path"][:200]}
                log.info(json.dumps(entry | {"status": status, "ms": round(seconds * 1e3, 2)}))

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        token = self._settings.token
        if token is not None and scope["path"] not in OPEN_PATHS:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            # The scheme's case does not matter: RFC 7235, section 2.1.
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(b" "), token.encode()):
                await Reply.problem(
                    401, "unauthorised", "send the header Authorization: Bearer <token>", ("www-authenticate", "Bearer")
                ).send(send)
                return
        limit = self._settings.max_body_bytes
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _TooLargeError
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLargeError
            return message

        endpoint = self._direct.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self._app(scope, counted, send)
            return
        body = await _whole_limits(counted)
        if body is not None:
            await (await endpoint(body)).send(send)


async def _whole_limits(receive: Receive) -> bytes | None:
    """Return the body of a request, or None when the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)

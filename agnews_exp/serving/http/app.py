"""The application: /predict, /model, /health, /ready, /metrics, and its OpenAPI description."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from agnews_exp import __version__
from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.process import Terminated, is_stop
from agnews_exp.evaluation.conformal import prediction_sets
from agnews_exp.evaluation.costs import Decision
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.answers import FittedModel
from agnews_exp.serving.http.limits import (
    App,
    Gate,
    Metrics,
    PredictRequest,
    PredictResponse,
    Problem,
    Reply,
    ServeSettings,
)

Answerer = Callable[[list[str]], Predictions]


class OverloadedError(Exception):
    """Too many requests are waiting."""


@dataclass(eq=False)
class _Request:
    texts: Sequence[str]
    future: asyncio.Future[Predictions] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Answers texts of concurrent requests in common batches, one at a time, in a thread of its own.

    Nothing is delayed to fill a batch: with an idle model a request is answered at once, with a busy one all that has
    come meanwhile goes together.

    A request of more than ``batch_size`` texts is a batch of its own; ``max_waiting`` requests may be at work or wait.
    """

    def __init__(self, answer: Answerer, *, batch_size: int, max_waiting: int) -> None:
        self._answer = answer
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self.on_batch: Callable[[int], None] = lambda _n: None  # the metrics, which ask the batcher in turn
        self._queue: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(1, "model")
        self._worker: asyncio.Task[None] | None = None
        self._open = 0

    @property
    def waiting(self) -> int:
        """Requests at work or waiting."""
        return self._open

    async def answer(self, texts: Sequence[str]) -> Predictions:
        """Answer a request's texts.

        Raises:
            OverloadedError: Too many requests wait already.
        """
        if self._open >= self._max_waiting:
            raise OverloadedError
        request = _Request(texts)
        self._open += 1
        try:
            self._queue.append(request)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.get_running_loop().create_task(self._work())
            return await request.future
        finally:
            self._open -= 1

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            texts = [text for request in batch for text in request.texts]
            self.on_batch(len(texts))
            try:
                answers = await loop.run_in_executor(self._thread, self._answer, texts)
            except Exception as error:
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)
                continue
            start = 0
            for request in batch:
                end = start + len(request.texts)
                if not request.future.done():  # given up by its client or its time limit
                    request.future.set_result(_part(answers, start, end))
                start = end

    def _next_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        n = 0
        while self._queue and (not batch or n + len(self._queue[0].texts) <= self._batch_size):
            request = self._queue.popleft()
            if request.future.done():
                continue
            batch.append(request)
            n += len(request.texts)
        return batch

    def close(self) -> None:
        """End the thread after the batch at work."""
        self._thread.shutdown(wait=True)


def _part(answers: Predictions, start: int, end: int) -> Predictions:
    def cut(values: np.ndarray[Any, Any] | None) -> Any:
        return None if values is None else values[start:end]

    parts = (answers.scores, answers.probabilities, answers.unparsed)
    return Predictions(answers.labels[start:end], *map(cut, parts))


PATHS = frozenset({"/predict", "/model", "/health", "/ready", "/metrics"})


def create_app(
    model: FittedModel,
    name: str,
    settings: ServeSettings | None = None,
    sets: tuple[float, ...] = (),
    decision: Decision | None = None,
) -> App:
    """Return the ASGI application of a model; ``sets`` and ``decision`` as in :class:`.predicting.Answering`."""
    limits = settings or ServeSettings()

    def answer(texts: list[str]) -> Predictions:
        given = model.predict(texts)
        return given if decision is None else decision.apply(given)

    batcher = Batcher(answer, batch_size=limits.batch_size, max_waiting=limits.max_waiting)
    metrics = Metrics(PATHS, lambda: batcher.waiting)
    batcher.on_batch = metrics.batch
    reply = partial(reply_to, batcher=batcher, name=name, names=model.class_names, limits=limits, sets=sets)
    ready = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        if model.family != "llm":  # it would be paid for
            await batcher.answer(["warm up"])  # the first answer loads kernels; nobody should wait for that
        ready.set()
        yield
        ready.clear()
        batcher.close()

    app = FastAPI(
        title=f"agnews-exp: {name}",
        version=__version__,
        description="Text classification. Every refusal is JSON with `error` and `detail`.",
        lifespan=lifespan,
        redoc_url=None,
    )

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> Response:
        kind = str(error.detail).lower().replace(" ", "_")
        detail = "the paths are: " + ", ".join(sorted(PATHS))
        return JSONResponse({"error": kind, "detail": detail}, error.status_code, headers=error.headers)

    # Requests to this path are answered before FastAPI sees them, which halves their time; here it is described.
    problems: dict[int | str, dict[str, Any]] = {k: {"model": Problem} for k in (401, 413, 422, 503, 504)}
    request_schema = PredictRequest.model_json_schema()
    texts = request_schema["properties"]["texts"]
    texts |= {"maxItems": limits.max_texts, "items": texts["items"] | {"maxLength": limits.max_characters}}
    schema = {"required": True, "content": {"application/json": {"schema": request_schema}}}

    @app.post(
        "/predict",
        response_model=PredictResponse,
        responses=problems,
        openapi_extra={"requestBody": schema},
        summary="Answer texts",
    )
    async def predict() -> Response:
        raise AssertionError("the gate answers; this stands in the description")

    @app.get("/model", summary="What answers")
    async def describe() -> dict[str, Any]:
        names = model.class_names
        told = {} if decision is None else {"decision": decision.said(names)}
        return {"model": name, "family": model.family, "classes": list(names), "version": __version__, **told}

    @app.get("/health", summary="Whether the process lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Whether requests can be answered", responses={503: {"model": Problem}})
    async def readiness() -> Response:
        if ready.is_set():
            return JSONResponse({"status": "ready"})
        return JSONResponse({"error": "not_ready", "detail": "loading or ending"}, 503)

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return Gate(app, {("POST", "/predict"): reply}, limits, metrics)


async def reply_to(
    body: bytes, batcher: Batcher, name: str, names: tuple[str, ...], limits: ServeSettings, sets: tuple[float, ...]
) -> Reply:
    """Return the answers to a request's body, or why there are none."""
    try:
        asked = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        return Reply.problem(422, "invalid", explain(error))
    if len(asked.texts) > limits.max_texts:
        said = f"{len(asked.texts):,} texts; a request may have {limits.max_texts:,}"
        return Reply.problem(413, "too_large", said)
    if (longest := max(map(len, asked.texts))) > limits.max_characters:
        said = f"a text of {longest:,} characters; it may have {limits.max_characters:,}"
        return Reply.problem(413, "too_large", said)
    try:
        async with asyncio.timeout(limits.timeout_s):
            answers = await batcher.answer(asked.texts)
    except OverloadedError:
        return Reply.problem(503, "overloaded", "too many requests are waiting", ("retry-after", "1"))
    except AgnewsError as error:  # a language model's endpoint gives no answer, or the budget is spent
        logging.getLogger("agnews.serve").error("%s", error)
        return Reply.problem(503, "unavailable", error.message)
    except TimeoutError:
        return Reply.problem(504, "timeout", f"no answer within {limits.timeout_s:g} s")
    rows = formatted(answers, names, asked, sets)
    return Reply(200, json.dumps({"model": name, "answers": rows}, ensure_ascii=False).encode())


def explain(error: ValidationError) -> str:
    """Return the first mistake in a request's body or in a server's settings, in one line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def formatted(
    answers: Predictions, names: tuple[str, ...], asked: PredictRequest, sets: tuple[float, ...]
) -> list[dict[str, Any]]:
    """Return the answers as the response holds them."""
    task = answers.task
    none = np.zeros(len(answers), dtype=np.bool_) if answers.unparsed is None else answers.unparsed
    rows: list[dict[str, Any]] = [
        {task.key: None if no else said}
        for said, no in zip(task.names(answers.labels, names), none.tolist(), strict=True)
    ]
    if answers.scores is None and answers.probabilities is None:
        return rows
    values = answers.confidences
    for i, (row, sure) in enumerate(zip(rows, task.sure(answers.labels, values), strict=True)):
        row["confidence"] = sure
        if asked.top_k > 1:
            order = np.argsort(-values[i], kind="stable")[: asked.top_k]
            row["top"] = [{"label": names[k], "confidence": round(float(values[i, k]), 6)} for k in order]
        if asked.probabilities:
            row["confidences"] = {name: round(float(v), 6) for name, v in zip(names, values[i], strict=True)}
    if sets:
        for row, held in zip(rows, prediction_sets(values, sets, "lac"), strict=True):
            row["set"] = [names[k] for k in np.flatnonzero(held)]
    return rows


class _JsonLines(logging.Formatter):
    """One JSON object a line; access lines are JSON already."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as one line of JSON."""
        entry: dict[str, Any] = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), "level": record.levelname}
        message = record.getMessage()
        if record.name == "agnews.access":
            return json.dumps(entry | json.loads(message))
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return json.dumps(entry | {"message": message})


IDLE_SECONDS = 20.0
"""How long a new connection may take until the headers of its first request are there."""


class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, which closes a connection that asks nothing; by itself it waits for ever."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(IDLE_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def serve(
    model: FittedModel,
    name: str,
    settings: ServeSettings,
    *,
    host: str,
    port: int,
    quiet: bool = False,
    sets: tuple[float, ...] = (),
    decision: Decision | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were accepted are answered first.

    Raises:
        AgnewsError: The port is taken.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for noisy in ("asyncio", "numba", "mlflow", *(("agnews.access",) if quiet else ())):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not is_loopback(host) and settings.token is None:
        logging.getLogger("agnews.serve").warning(
            "anyone who reaches %s can ask this model; set AGNEWS_SERVE_TOKEN, or keep to 127.0.0.1", host
        )
    config = uvicorn.Config(
        create_app(model, name, settings, sets, decision),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_s),
        http=Impatient,
        h11_max_incomplete_event_size=64 * 1024,
    )
    listening = _listen(config, host, port)
    address, bound = listening.getsockname()[:2]
    print(f"{name} at http://{address}:{bound}  (documentation: /docs, metrics: /metrics; Ctrl-C ends it)", flush=True)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except (Terminated, KeyboardInterrupt) as stop:  # uvicorn raises the signal again after it has ended well
        is_stop(stop)  # so it was heard, and is no reason for an exit code


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(config: Any, host: str, port: int) -> Any:
    """Bind before anything is started, so that a taken port is an error of its own."""
    try:
        return config.bind_socket()
    except SystemExit as error:
        raise AgnewsError(f"Port {port} of {host} cannot be had.", fix="agnews serve ... --port 0") from error

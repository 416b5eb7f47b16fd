"""The application: /predict, /model, /health, /ready, /metrics, and its OpenAPI description."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from agnews_exp import __version__
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.loading import FittedModel
from agnews_exp.serving.http.batching import Batcher, OverloadedError
from agnews_exp.serving.http.limits import App, Gate, Reply
from agnews_exp.serving.http.metrics import Metrics
from agnews_exp.serving.http.settings import PredictRequest, PredictResponse, Problem, ServeSettings
from agnews_exp.serving.predicting import confidences

PATHS = frozenset({"/predict", "/model", "/health", "/ready", "/metrics"})


def create_app(model: FittedModel, name: str, settings: ServeSettings | None = None) -> App:
    """Return the ASGI application that answers with a model.

    Args:
        model: Answers texts.
        name: What people call it.
        settings: Limits.
    """
    limits = settings or ServeSettings()
    batcher = Batcher(model.predict, batch_size=limits.batch_size, max_waiting=limits.max_waiting)
    metrics = Metrics(PATHS, lambda: batcher.waiting)
    batcher.on_batch = metrics.batch
    predictor = Predictor(batcher, name, model.class_names, limits)
    ready = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
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
    schema = {"required": True, "content": {"application/json": {"schema": request_schema(limits)}}}

    @app.post(
        "/predict",
        response_model=PredictResponse,
        responses=problems,
        openapi_extra={"requestBody": schema},
        summary="Answer texts",
    )
    async def predict(request: Request) -> Response:
        reply = await predictor.reply(await request.body())
        return Response(reply.body, reply.status, dict(reply.headers), "application/json")

    @app.get("/model", summary="What answers")
    async def describe() -> dict[str, Any]:
        return {"model": name, "family": model.family, "classes": list(model.class_names), "version": __version__}

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

    return Gate(app, {("POST", "/predict"): predictor.reply}, limits, metrics)


class Predictor:
    """Answers the body of a request for answers.

    Args:
        batcher: Answers texts.
        name: What people call the model.
        class_names: K names.
        limits: What a request may ask.
    """

    def __init__(self, batcher: Batcher, name: str, class_names: tuple[str, ...], limits: ServeSettings) -> None:
        self._batcher = batcher
        self._name = name
        self._names = class_names
        self._limits = limits

    async def reply(self, body: bytes) -> Reply:
        """Return the answers, or why there are none."""
        try:
            asked = PredictRequest.model_validate_json(body)
        except ValidationError as error:
            return Reply.problem(422, "invalid", explain(error))
        if too_much := beyond(asked, self._limits):
            return Reply.problem(413, "too_large", too_much)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                answers = await self._batcher.answer(asked.texts)
        except OverloadedError:
            return Reply.problem(503, "overloaded", "too many requests are waiting", ("retry-after", "1"))
        except TimeoutError:
            return Reply.problem(504, "timeout", f"no answer within {self._limits.timeout_s:g} s")
        rows = formatted(answers, self._names, asked)
        return Reply(200, json.dumps({"model": self._name, "answers": rows}, ensure_ascii=False).encode())


def request_schema(limits: ServeSettings) -> dict[str, Any]:
    """Return the JSON schema of a request, with this server's limits."""
    schema = PredictRequest.model_json_schema()
    texts = schema["properties"]["texts"]
    texts["maxItems"] = limits.max_texts
    texts["items"]["maxLength"] = limits.max_characters
    return schema


def beyond(asked: PredictRequest, limits: ServeSettings) -> str | None:
    """Say which limit a request is beyond, or None."""
    if len(asked.texts) > limits.max_texts:
        return f"{len(asked.texts):,} texts; a request may have {limits.max_texts:,}"
    longest = max(map(len, asked.texts))
    if longest > limits.max_characters:
        return f"a text of {longest:,} characters; it may have {limits.max_characters:,}"
    return None


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with a body."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def formatted(answers: Predictions, names: tuple[str, ...], asked: PredictRequest) -> list[dict[str, Any]]:
    """Return the answers as the response holds them."""
    rows: list[dict[str, Any]] = [{"label": names[k]} for k in answers.labels]
    if answers.scores is None and answers.probabilities is None:
        return rows
    values = confidences(answers)
    for i, row in enumerate(rows):
        row["confidence"] = round(float(values[i, answers.labels[i]]), 6)
        if asked.top_k > 1:
            order = np.argsort(-values[i], kind="stable")[: asked.top_k]
            row["top"] = [{"label": names[k], "confidence": round(float(values[i, k]), 6)} for k in order]
        if asked.probabilities:
            row["confidences"] = {name: round(float(v), 6) for name, v in zip(names, values[i], strict=True)}
    return rows

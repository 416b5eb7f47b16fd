"""What stands before the application: body size, token, request ids, access log, metrics."""

from __future__ import annotations

import hmac
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from agnews_exp.serving.http.metrics import Metrics
from agnews_exp.serving.http.settings import ServeSettings

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
    """A whole response.

    Attributes:
        status: HTTP status.
        body: JSON.
        headers: Beyond content type and length.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def problem(cls, status: int, error: str, detail: str, *headers: tuple[str, str]) -> Reply:
        """Return a refusal."""
        return cls(status, json.dumps({"error": error, "detail": detail}).encode(), headers)

    async def send(self, send: Send) -> None:
        """Send it."""
        fields = (("content-type", "application/json"), ("content-length", str(len(self.body))), *self.headers)
        raw = [(name.encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.body})


Endpoint = Callable[[bytes], Awaitable[Reply]]


class Gate:
    """ASGI application before the application: refuses what is too large or not allowed, and notes every request.

    Args:
        app: The application.
        direct: By method and path: what is answered here from the body alone, without the application.
        settings: Limits and token.
        metrics: Counts requests.
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
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
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
        body = await _whole(counted)
        if body is not None:
            await (await endpoint(body)).send(send)


async def _whole(receive: Receive) -> bytes | None:
    """Return the body of a request, or None when the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)

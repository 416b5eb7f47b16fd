"""Running the server: JSON logs, a port of its own, a quiet end."""

from __future__ import annotations

import ipaddress
import json
import logging
import sys
from contextlib import suppress
from typing import Any

import uvicorn

from agnews_exp.config.entry import Terminated
from agnews_exp.config.errors import AgnewsError
from agnews_exp.models.loading import FittedModel
from agnews_exp.serving.http.app import create_app
from agnews_exp.serving.http.settings import ServeSettings


class _JsonLines(logging.Formatter):
    """One JSON object a line; access lines are JSON already."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), "level": record.levelname}
        message = record.getMessage()
        if record.name == "agnews.access":
            return json.dumps(entry | json.loads(message))
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return json.dumps(entry | {"message": message})


def serve(model: FittedModel, name: str, settings: ServeSettings, *, host: str, port: int, quiet: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were accepted are answered first.

    Args:
        model: Answers texts.
        name: What people call it.
        settings: Limits.
        host: Address to bind.
        port: Port; 0 takes a free one.
        quiet: No access log.

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
        create_app(model, name, settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_s),
        h11_max_incomplete_event_size=64 * 1024,
    )
    listening = _listen(config, host, port)
    address, bound = listening.getsockname()[:2]
    print(f"{name} at http://{address}:{bound}  (documentation: /docs, metrics: /metrics; Ctrl-C ends it)", flush=True)
    with suppress(Terminated, KeyboardInterrupt):  # uvicorn raises the signal again after it has ended well
        uvicorn.Server(config).run(sockets=[listening])


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

"""A local server of the OpenAI chat protocol for tests: it answers by keywords, and misbehaves as it is told."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, int], Any]
"""``(text, number of the time that it is asked, from 1)`` -> the content of the answer, or what goes wrong."""


class ChatServer(ThreadingHTTPServer):
    """Sends what ``answer`` returns: a text, ``(status, body, headers)``, half an answer in bytes, or a function."""

    daemon_threads = True

    def __init__(self, answer: Answer, *, logprobs: bool = True, schema: bool = True, delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.logprobs, self.schema, self.delay = answer, logprobs, schema, delay
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        with server.lock:
            server.asked[text] += 1
            n = server.asked[text]
            server.bodies.append(body)
            server.keys.add(self.headers.get("Authorization"))
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        try:
            time.sleep(server.delay)
            if not server.schema and "response_format" in body:
                found: Any = (400, {"error": {"message": "response_format is not supported"}}, {})
            elif not server.logprobs and "logprobs" in body:
                found = (422, {"error": {"message": "unknown field logprobs"}}, {})
            else:
                found = server.answer(text, n)
            if callable(found):
                found = found()
            if isinstance(found, str):
                content = json.dumps({"label": found}) if "response_format" in body else found
                found = (200, reply(content, text, "logprobs" in body), {})
            if isinstance(found, bytes):  # half an answer
                self.send_response(200)
                self.send_header("Content-Length", str(len(found) + 100))
                self.end_headers()
                self.wfile.write(found)
                return
            status, content, headers = found
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            with server.lock:
                server.answered[text] += status == 200
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        finally:
            with server.lock:
                server.busy -= 1


def reply(content: str | None, text: str = "", logprobs: bool = False, finish: str = "stop") -> dict[str, Any]:
    """A body of the protocol; log-probabilities give the answer's first letters .7 and nothing in particular .3."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    if logprobs and content:
        parts = [content[i : i + 3] for i in range(0, len(content), 3)]
        likely = [{"logprob": math.log(0.7)}, {"token": "~", "logprob": math.log(0.3)}]
        choice["logprobs"] = {
            "content": [{"token": p, "logprob": math.log(0.7), "top_logprobs": [likely[0] | {"token": p}, likely[1]]}
                        for p in parts]
        }  # fmt: skip
    usage = {"prompt_tokens": 50 + len(text) // 4, "completion_tokens": 5}
    return {"choices": [choice], "usage": usage}


@contextmanager
def serving(answer: Answer, **options: Any) -> Iterator[ChatServer]:
    """Serve while the block runs."""
    server = ChatServer(answer, **options)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

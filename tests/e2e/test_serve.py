"""`agnews predict` and `agnews serve` on a trained run, as processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress

import psutil
import pytest

pytest.importorskip("prometheus_client", reason="needs the extra serve")

SMALL = ("data=sample", "model=multinomial_nb", "features=word_tfidf", "trainer.n_jobs=1", "tracking=none")
BODY = json.dumps({"texts": ["Oil prices rise on supply fears"]}).encode()


@pytest.fixture(scope="module")
def trained(module_project):
    done = module_project.run(*SMALL, "data_fraction=0.2", "evaluation.latency_repeats=0")
    assert done.returncode == 0, done.stderr
    return module_project


@pytest.fixture
def server(trained):
    words = [sys.executable, "-m", "agnews_exp.cli", "serve", "multinomial_nb-word_tfidf", "--port", "0"]
    process = subprocess.Popen(
        words, cwd=trained.root, env=trained.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = int(re.search(r":(\d+) ", process.stdout.readline()).group(1))
    threading.Thread(target=process.stderr.read, daemon=True).start()
    for _ in range(300):
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            break
        time.sleep(0.1)
    yield process, port
    process.kill()
    process.wait()


def post(port, body=BODY):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def raw(port, data):
    """Send bytes as they are; return the status, or None when the server just closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        except TimeoutError:
            raise
        except OSError:  # refused while we were still sending
            return None
    return int(answer.split()[1]) if answer.startswith(b"HTTP") else None


def whole(connection):
    """Receive a whole response; what there is of it when the server closes."""
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if end and length and len(body) >= int(length.group(1)):
            return answer
        part = connection.recv(65536)
        if not part:
            return answer
        answer += part


def http(body, head="POST /predict HTTP/1.1", **headers):
    fields = {"Host": "x", "Connection": "close", "Content-Length": len(body)} | headers
    lines = [head, *(f"{k}: {v}" for k, v in fields.items() if v is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET\r\n\r\n",
    b"POST /predict HTTP/9.9\r\n\r\n",
    http(b"{"),
    http(b"\xff" * 50),
    http(b'{"texts": 3}'),
    http(b'{"texts": [{}]}'),
    http(b'{"texts": ["\\ud800"]}'),
    http(b"[" * 5000),
    http(b'{"texts": [' + b'"a",' * 500 + b'"a"]}'),
    http(b"x" * 2_000_000),
    http(b"{}", **{"Content-Length": -1}),
    http(b"{}", **{"Content-Length": "9" * 30}),
    http(b"{}", **{"Content-Length": "abc"}),
    http(b"{}", **{"Content-Length": None, "Transfer-Encoding": "chunked"}),
    http(b"{}", **{"X-Long": "a" * 100_000}),
    http(b"{}", head="POST /../../etc/passwd HTTP/1.1"),
    http(b"{}", head="POST /predict%00 HTTP/1.1"),
    http(b"{}", head="TRACE /predict HTTP/1.1"),
    http(b'{"texts": ["a"], "__proto__": {}}', **{"Content-Type": "text/\xe9"}),
]


@pytest.mark.slow
def test_a_thousand_malformed_requests_leave_a_server_that_answers_with_as_much_memory(server):
    process, port = server
    post(port)
    for data in MALFORMED:
        raw(port, data)
    before = psutil.Process(process.pid).memory_info().rss
    statuses = [raw(port, MALFORMED[i % len(MALFORMED)]) for i in range(1000)]
    assert not [s for s in statuses if s is not None and not 400 <= s < 500]
    assert sum(s is not None for s in statuses) > 500, "most refusals say so"
    assert post(port)["answers"][0]["label"]
    assert psutil.Process(process.pid).memory_info().rss < before + 30e6


@pytest.mark.slow
def test_sigterm_under_load_drops_no_accepted_request(server):
    process, port = server
    expected = json.dumps(post(port), ensure_ascii=False).encode()
    outcomes, sent = [], threading.Semaphore(0)

    def client():
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            while True:
                try:
                    connection.sendall(http(BODY, Connection="keep-alive"))
                    answer = whole(connection)
                except ConnectionError:
                    return
                sent.release()
                if not answer:
                    return  # closed between two requests: nothing of it was accepted
                outcomes.append(answer.partition(b"\r\n\r\n")[2] == expected)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    for _ in range(200):
        assert sent.acquire(timeout=30)
    process.send_signal(signal.SIGTERM)
    for thread in clients:
        thread.join(30)
    assert process.wait(30) == 0
    assert len(outcomes) >= 192
    assert all(outcomes)


@pytest.mark.slow
def test_predict_reads_standard_input_and_files_and_says_what_it_did(trained, tmp_path):
    lines = tmp_path / "in.txt"
    lines.write_text("Oil prices rise\n\nThe champions win the cup\n")
    done = trained.agnews("predict", "multinomial_nb-word_tfidf", str(lines), "--output", str(tmp_path / "out.csv"))
    assert done.returncode == 0, done.stderr
    assert "2 answered, 1 rejected" in done.stderr
    assert (tmp_path / "out.csv").read_text().startswith("line,label,confidence\n1,")
    unknown = trained.agnews("predict", "multinomial_mb-word_tfidf", str(lines))
    assert unknown.returncode == 2
    assert "Did you mean 'multinomial_nb-word_tfidf'" in unknown.stderr

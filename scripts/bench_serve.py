"""Requests per second of `agnews serve` against `mlflow models serve`: the same model, one text a request, same run.

    python scripts/bench_serve.py <run> [--seconds 10] [--connections 16]

Both servers run on loopback, one after the other, with their defaults; the same client keeps so many connections busy.
Client and server share this machine's cores. Prints requests per second, p50 and p99 latency and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEXTS = [
    "Oil prices rise on supply fears as the dollar falls against the euro",
    "Striker scores twice as the champions win the cup final in extra time",
    "New chip doubles the speed of phones, its maker says",
    "Ministers meet at the border to talk about a treaty",
]


def main() -> None:
    """Measure both servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="finished run of a classical model (name, folder or id), logged to MLflow")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    ours = _measure(_ours(options.run), "/predict", lambda text: {"texts": [text]}, options)
    theirs = _measure(_mlflow(options.run), "/invocations", lambda text: {"inputs": [text]}, options)
    print(f"{options.connections} connections, one text a request, {options.seconds:g} s each, {os.cpu_count()} cores")
    for name, (rate, p50, p99) in (("agnews serve", ours), ("mlflow models serve", theirs)):
        print(f"{name:<22}{rate:>9,.0f} requests/s   p50 {p50 * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms")
    print(f"ratio {ours[0] / theirs[0]:.1f}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, path: str) -> Iterator[int]:
    # mlflow looks for uvicorn on the PATH.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1)
                    break
                except OSError:
                    if process.poll() is not None:
                        log.seek(0)
                        sys.exit(log.read().decode()[-2000:])
                    time.sleep(0.1)
            yield port
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)


def _ours(run: str) -> Iterator[int]:
    port = _free_port()
    return _running(
        [sys.executable, "-m", "agnews_exp.cli", "serve", run, "--port", str(port), "--quiet"], port, "/ready"
    )


def _mlflow(run: str) -> Iterator[int]:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain
    from agnews_exp.tracking.record import TRACKING, read_json
    from agnews_exp.tracking.runs import find_runs
    from agnews_exp.tracking.store import tracking_uri

    plain = to_plain(compose_config([]))
    (folder,) = find_runs(plain, [run])
    note = read_json(folder.path / TRACKING) or {}
    uri = tracking_uri(Path(plain["paths"]["mlruns_dir"]), plain["tracking"]["uri"])
    os.environ["MLFLOW_TRACKING_URI"] = uri
    import mlflow

    model = mlflow.artifacts.download_artifacts(f"runs:/{note['run_id']}/model", dst_path=tempfile.mkdtemp())
    port = _free_port()
    program = shutil.which("mlflow", path=str(Path(sys.executable).parent)) or "mlflow"
    command = [program, "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    return _running(command, port, "/ping")


def _measure(server, path, body, options) -> tuple[float, float, float]:  # noqa: ANN001
    with server as port:
        requests = []
        for text in TEXTS:
            content = json.dumps(body(text)).encode()
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
            )
            requests.append(head.encode() + b"\r\n\r\n" + content)
        asyncio.run(_load(port, requests, 2.0, options.connections))
        seconds, latencies = asyncio.run(_load(port, requests, options.seconds, options.connections))
    latencies.sort()
    return len(latencies) / seconds, latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]


async def _load(port: int, requests: list[bytes], seconds: float, connections: int) -> tuple[float, list[float]]:
    latencies: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(_client(port, requests, start + seconds, latencies) for _ in range(connections)))
    return time.perf_counter() - start, latencies


async def _client(port: int, requests: list[bytes], until: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    i = 0
    while (start := time.perf_counter()) < until:
        writer.write(requests[i % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"the server answered {head.splitlines()[0]!r}")
        length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-l"))
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - start)
        i += 1
    writer.close()


if __name__ == "__main__":
    main()

"""Weights from an imitation of the hub on the loopback, then from the cache; told at once when neither has them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from agnews_exp.core.errors import ConfigError
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.inference import TextPredictor, save_predictor
from agnews_exp.models.recipes import PretrainedEncoder, ScratchEncoder

REPOSITORY, REVISION = "someone/tiny", "a" * 40
RECIPE = PretrainedEncoder(pretrained=f"{REPOSITORY}@{REVISION}", max_length=16)
LOAD = f"""
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.recipes import PretrainedEncoder
recipe = PretrainedEncoder(pretrained={f"{REPOSITORY}@{REVISION}"!r}, max_length=16)
network = build_network(recipe, load_tokenizer(recipe, []), ("x", "y"))
print(float(network.encoder.distilbert.embeddings.word_embeddings.weight.detach().double().sum()))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A server that gives one small model's files as the hub does, its folder, and what it was asked for."""
    folder = tmp_path_factory.mktemp("model")
    recipe = ScratchEncoder(dim=16, n_layers=1, n_heads=2, hidden_dim=32, vocabulary=300, max_length=16)
    tokenizer = load_tokenizer(recipe, ["the bank raised its rates"] * 3)
    torch.manual_seed(0)
    network = build_network(recipe, tokenizer, ("a", "b"))
    save_predictor(TextPredictor(network, tokenizer, ("a", "b"), 16, torch.device("cpu")), recipe, folder)
    prefix, served = f"/{REPOSITORY}/resolve/{REVISION}/", []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = folder / self.path.removeprefix(prefix)
            if not self.path.startswith(prefix) or not path.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                served.append(path.name)
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    weights = float(network.encoder.distilbert.embeddings.word_embeddings.weight.detach().double().sum())
    yield f"http://127.0.0.1:{server.server_port}", weights, served
    server.shutdown()
    server.server_close()


def load(endpoint, home):
    """Load the model in a process of its own: the hub's libraries read their settings once, at import."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", LOAD]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_weights_come_from_the_hub_and_then_from_the_cache(hub, tmp_path):
    endpoint, weights, served = hub
    first = load(endpoint, tmp_path)
    assert first.returncode == 0, first.stderr
    assert float(first.stdout) == pytest.approx(weights, abs=1e-9)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(served)
    served.clear()
    again = load("http://127.0.0.1:9", tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert served == []


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://hub.invalid"])
def test_hub_that_cannot_be_reached_is_told_at_once(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"(?s)someone/tiny.*could not be reached.*pretrained_path"):
        load_tokenizer(RECIPE, [])
    assert time.monotonic() - start < 30


def test_model_that_the_hub_does_not_have_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub[0])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    recipe = PretrainedEncoder(pretrained=f"someone/else@{REVISION}")
    with pytest.raises(ConfigError, match=r"someone/else.*The Hugging Face hub has no"):
        load_tokenizer(recipe, [])

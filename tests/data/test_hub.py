import hashlib
import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from agnews_exp.core.errors import ConfigError, DataError, StorageError
from agnews_exp.data.bundled import load_ag_news
from agnews_exp.data.hub import fetch_dataset_file
from agnews_exp.data.hub_datasets import load_hf

REPOSITORY, REVISION = "someone/news", "a" * 40


@pytest.fixture(autouse=True)
def no_other_cache(tmp_path, monkeypatch):
    """Keep the machine's own hub cache and proxies out of the tests."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Hub:
    """A server on the loopback that answers as the hub does for dataset files."""

    def __init__(self):
        self.files = {}
        self.downloads = []
        self.gated = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                hub.downloads.append(self.path)
                self.answer(body=True)

            def answer(self, body):
                if self.path.startswith(f"/api/datasets/{REPOSITORY}"):
                    self.describe(body)
                    return
                content = hub.files.get(self.path.removeprefix(f"/datasets/{REPOSITORY}/resolve/{REVISION}/"))
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", REVISION)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def describe(self, body):
                names = [{"rfilename": name} for name in hub.files]
                known = self.path.rpartition("/")[2] in (REPOSITORY.rpartition("/")[2], REVISION, "main")
                status, code = (403, "GatedRepo") if hub.gated else (200, "") if known else (404, "RevisionNotFound")
                content = json.dumps({"id": REPOSITORY, "sha": REVISION, "siblings": names}).encode()
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()


def fetch(tmp_path, filename="data/x.bin", sha256=None, timeout=5.0):
    return fetch_dataset_file(
        REPOSITORY, REVISION, filename, sha256=sha256, cache_dir=tmp_path / "hub", timeout=timeout
    )


def parquet(tmp_path, texts, labels):
    path = tmp_path / "made.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
    return path.read_bytes()


def test_a_downloaded_corpus_is_read_and_served_from_the_cache_afterwards(hub, tmp_path, monkeypatch, caplog):
    hub.files = {
        "data/train-00000-of-00001.parquet": parquet(tmp_path, ["null", "b", "c"], [3, 0, 1]),
        "data/test-00000-of-00001.parquet": parquet(tmp_path, ["d"], [2]),
    }
    options = {"repository": REPOSITORY, "revision": REVISION, "cache_dir": tmp_path}
    with caplog.at_level(logging.WARNING):
        corpus = load_ag_news(**options)
    assert (corpus.train.texts, corpus.train.labels.tolist()) == (["null", "b", "c"], [3, 0, 1])
    assert (corpus.test.texts, corpus.source) == (["d"], "ag_news:hub")
    assert corpus.location == f"https://huggingface.co/datasets/{REPOSITORY}@{REVISION}"
    assert "is not the pinned revision" in caplog.text
    assert len(hub.downloads) == 2
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load_ag_news(**options).checksum() == corpus.checksum()


def test_a_file_that_is_not_the_expected_one_is_deleted_and_refused(hub, tmp_path):
    hub.files = {"data/x.bin": b"other"}
    with pytest.raises(StorageError, match="the file was deleted"):
        fetch(tmp_path, sha256=hashlib.sha256(b"expected").hexdigest())
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.read_bytes() == b"other"]


def test_a_damaged_cached_file_is_downloaded_again(hub, tmp_path, caplog):
    hub.files = {"data/x.bin": b"content"}
    expected = hashlib.sha256(b"content").hexdigest()
    path = fetch(tmp_path, sha256=expected)
    path.resolve().write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        again = fetch(tmp_path, sha256=expected)
    assert again.read_bytes() == b"content"
    assert "damaged" in caplog.text
    assert len(hub.downloads) == 2


def test_a_file_the_hub_does_not_have_is_named(hub, tmp_path):
    with pytest.raises(DataError, match=r"hub has no someone/news@aaaaaaaaaaaa/data/x\.bin"):
        fetch(tmp_path)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([None, "b"], [0, 1], "line 1: the text is missing"),
        (["a", " "], [0, 1], "line 2: the text is empty"),
        (["a"], [4], "line 1: unknown class '4'"),
    ],
)
def test_parquet_with_unusable_rows_is_refused(hub, tmp_path, texts, labels, message):
    hub.files = {"data/train-00000-of-00001.parquet": parquet(tmp_path, texts, labels)}
    with pytest.raises(DataError, match=message):
        load_ag_news(repository=REPOSITORY, revision=REVISION, cache_dir=tmp_path)


def test_what_is_not_parquet_is_refused(hub, tmp_path):
    hub.files = {"data/train-00000-of-00001.parquet": b"<html>a captive portal</html>"}
    with pytest.raises(DataError, match="not readable Parquet"):
        load_ag_news(repository=REPOSITORY, revision=REVISION, cache_dir=tmp_path)


def test_an_unreachable_hub_is_an_error_within_seconds_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"could not be reached") as caught:
        load_ag_news(cache_dir=tmp_path, hub_timeout=10)
    assert time.perf_counter() - start < 60
    assert "AGNEWS_DATA_DIR" in caught.value.fix
    assert "data=sample" in caught.value.fix


def test_a_hub_that_accepts_but_never_answers_is_given_up_in_time(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(DataError, match=r"within 1 s|could not be reached"):
            fetch(tmp_path, timeout=1.0)
        assert time.perf_counter() - start < 60


def test_a_hub_that_answers_byte_by_byte_is_given_up_in_time(tmp_path, monkeypatch):
    """No single read times out here: only the deadline of the whole call ends it."""
    stop = threading.Event()

    def trickle(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stop.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,), daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(DataError, match=r"did not give .* within 1 s"):
            fetch(tmp_path, timeout=1.0)
        seconds = time.perf_counter() - start
        stop.set()
        thread.join(5)
    assert seconds < 60


def test_offline_mode_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        fetch(tmp_path)


def test_a_cache_that_cannot_be_made_is_a_storage_error(hub, tmp_path):
    hub.files = {"data/x.bin": b"content"}
    (tmp_path / "hub").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot be stored"):
        fetch(tmp_path)


def shard(tmp_path, rows, names=None):
    """A Parquet file of (text, label) rows, with the hub's metadata where classes have names."""
    table = pyarrow.table({"body": [f"{text} text" for text, _ in rows], "topic": [label for _, label in rows]})
    if names:
        features = {"topic": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path / "shard.parquet")
    return (tmp_path / "shard.parquet").read_bytes()


CARD = b"""---
dataset_info:
  features:
  - name: body
    dtype: string
  - name: topic
    dtype:
      class_label:
        names:
          '0': sport
          '1': arts
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: holdout
    path: data/holdout-*
---
# A card
"""


def layout(tmp_path, names=None):
    """A repository with a training split of two files, a test split and one of a name of its own."""
    parts = {
        "train-00000-of-00002": [(f"a{i}", i % 2) for i in range(30)],
        "train-00001-of-00002": [(f"b{i}", i % 2) for i in range(20)],
        "holdout-00000-of-00001": [(f"c{i}", i % 2) for i in range(10)],
        "test-00000-of-00001": [(f"d{i}", i % 2) for i in range(9)],
    }
    return {f"data/{name}.parquet": shard(tmp_path, rows, names) for name, rows in parts.items()}


COLUMNS = {"text_columns": ["body"], "label_column": "topic"}


def test_a_data_set_of_the_hub_keeps_its_splits_its_names_and_its_commit(hub, tmp_path, monkeypatch):
    hub.files = layout(tmp_path, ["sport", "arts"])
    options = {"path": REPOSITORY, "cache_dir": tmp_path / "cache"} | COLUMNS
    corpus = load_hf(**options)
    assert (len(corpus.train), corpus.validation, len(corpus.test)) == (50, None, 9)
    assert corpus.train.row_ids.tolist() == list(range(50))
    assert corpus.train.texts[0], corpus.train.texts[30] == ("a0 text", "b0 text")
    assert [corpus.class_names[i] for i in corpus.train.labels[:3]] == ["sport", "arts", "sport"]
    assert corpus.location.endswith(f"datasets/{REPOSITORY}@{REVISION}")
    assert len([path for path in hub.downloads if "/resolve/" in path]) == 3
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for revision in (None, REVISION):
        again = load_hf(**options, revision=revision)
        assert (again.checksum(), again.location.rpartition("/")[2]) == (corpus.checksum(), f"news@{REVISION}")


def test_a_folder_in_the_layout_of_the_hub_is_read_as_its_card_says(tmp_path):
    folder = tmp_path / "repository"
    for name, content in (layout(tmp_path) | {"README.md": CARD}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    corpus = load_hf(path=str(folder), validation_split="holdout", **COLUMNS)
    assert (len(corpus.train), len(corpus.validation), corpus.test) == (50, 10, None)
    assert corpus.class_names == ("arts", "sport")
    with pytest.raises(ConfigError, match="holdout"):
        load_hf(path=str(folder), test_split="holdot", **COLUMNS)
    (folder / "data" / "train-00000-of-00001-old.parquet").write_bytes(shard(tmp_path, [("x", -1)]))
    with pytest.raises(DataError, match="the label '-1' is no class from 0 to 1"):
        load_hf(path=str(folder), **COLUMNS)
    (folder / "README.md").unlink()
    for file in (folder / "data").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="refs/convert/parquet"):
        load_hf(path=str(folder), **COLUMNS)


@pytest.mark.parametrize(
    "head",
    ["configs: [{config_name: default, data_files: [word]}]", "configs: [{data_files: [{split: train, path: 3}]}]",
     "dataset_info: {features: [word]}", "dataset_info: {features: [{name: topic, dtype: {class_label: 3}}]}",
     "dataset_info: {features: [{name: topic, dtype: {class_label: {names: {a: b}}}}]}"],
)  # fmt: skip
def test_a_description_of_another_form_is_refused_without_a_traceback(tmp_path, head):
    folder = tmp_path / "repository"
    for name, content in layout(tmp_path).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    with pytest.raises(DataError, match="not of the hub's form"):
        load_hf(path=str(folder), **COLUMNS)


def test_metadata_of_another_form_is_refused_without_a_traceback(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    for metadata in ("no json", '{"info": 3}', '{"info": {"features": {"topic": 3}}}'):
        table = pyarrow.table({"body": ["a b", "c d"], "topic": [0, 1]}).replace_schema_metadata(
            {"huggingface": metadata}
        )
        pyarrow.parquet.write_table(table, folder / "train.parquet")
        with pytest.raises(DataError, match="not of the hub's form"):
            load_hf(path=str(folder), **COLUMNS)


def test_what_the_hub_refuses_is_said_with_what_helps(hub, tmp_path, monkeypatch):
    hub.files = layout(tmp_path)
    options = {"path": REPOSITORY, "cache_dir": tmp_path / "cache", "hub_timeout": 5} | COLUMNS
    with pytest.raises(DataError, match=r"data\.revision=null"):
        load_hf(**options, revision="v7")
    with pytest.raises(DataError, match=r"check data\.path"):
        load_hf(**options | {"path": "someone/else"})
    hub.gated = True
    with pytest.raises(DataError, match=r"accept its terms at .*someone/news"):
        load_hf(**options)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"could not be reached .*\n.*a local folder"):
        load_hf(**options)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        load_hf(**options)
    with pytest.raises(ConfigError, match=r"data\.path="):
        load_hf()


@pytest.mark.slow
def test_a_run_records_the_commit_or_the_folder_of_its_rows(hub, project, tmp_path):
    hub.files = layout(tmp_path, ["sport", "arts"])
    for name, content in hub.files.items():
        (project.root / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / "mine" / name).write_bytes(content)
    words = ["data=hf", "data.text_columns=[body]", "data.label_column=topic", "model=dummy", "features=bow"]
    local = {"NO_PROXY": "127.0.0.1", "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    online = f"https://huggingface.co/datasets/{REPOSITORY}@{REVISION}"
    for path, place, commit in (
        ("mine", str((project.root / "mine").resolve()), None),
        (REPOSITORY, online, REVISION),
    ):
        done = project.run(*words, f"data.path={path}", "tracking.enabled=false", "force=true", env=local)
        assert done.returncode == 0, done.stderr
        data = project.result(project.run_folders[-1])["data"]
        assert data["rows"] == {"train": 42, "val": 8, "test": 9}
        assert data["location"] == place
        stored = yaml.safe_load((project.run_folders[-1] / "config.yaml").read_text())["data"]
        assert stored["revision"] == commit

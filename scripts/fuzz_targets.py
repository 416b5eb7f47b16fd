"""What scripts/fuzz.py feeds with bytes: each target takes any bytes, and may refuse them only with an AgnewsError.

Every target is made by a function that takes an empty folder and returns what reads bytes; its seeds are where the
search begins.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.core.errors import AgnewsError

Reader = Callable[[bytes], None]

CLASSES = ("Sports", "Business")
TEXTS = ["goal in the final", "bank profit rises", "coach and goal", "profit of the bank falls"] * 3


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        what: What it is, in a line.
        make: Takes an empty folder and returns the reader.
        seeds: Inputs to begin with.
        words: Pieces that are worth trying.
    """

    what: str
    make: Callable[[Path], Reader]
    seeds: Sequence[bytes]
    words: Sequence[str] = ()


def fitted_model() -> Any:
    """Return a small classical model."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from agnews_exp.models.loading import ClassicalModel
    from agnews_exp.ngrams import TfidfVectorizer

    pipeline = Pipeline([("features", TfidfVectorizer()), ("model", LogisticRegression())])
    return ClassicalModel(pipeline.fit(TEXTS, np.array([0, 1] * 6)), CLASSES)


def _rows(suffix: str) -> Callable[[Path], Reader]:
    """Make the reader of training files and of files to predict: the first byte chooses how they are read."""

    def make(folder: Path) -> Reader:
        from agnews_exp.data.csv_files import load_csv
        from agnews_exp.serving.inputs import Asked, describe_source, read_items

        path = folder / f"rows{suffix}"

        def read(data: bytes) -> None:
            options, content = data[:1] or b"\0", data[1:]
            header = not options[0] & 1
            encoding = ("utf-8", "utf-16", "latin-1", "cp1252")[options[0] >> 1 & 3]
            path.write_bytes(content)
            columns: dict[str, Any] = {} if header else {"text_columns": 0, "label_column": 1}
            with suppress(AgnewsError):
                corpus = load_csv(train_file=path, encoding=encoding, has_header=header, **columns)
                assert len(corpus.train.texts) == len(corpus.train.labels) > 0
                assert all(text.strip() for text in corpus.train.texts)
                assert len(corpus.class_names) == len(set(corpus.class_names)) > 1
            with suppress(AgnewsError):
                source = describe_source(str(path), Asked(header=header, encoding=encoding))
                assert all((item.text is None) != (item.reason is None) for item in read_items(source))

        return read

    return make


def _manifest(folder: Path) -> Reader:
    """Make the loader of a model folder whose manifest is the input."""
    from agnews_exp.models.loading import load_model
    from agnews_exp.models.persistence import MANIFEST, save_pipeline

    save_pipeline(fitted_model().pipeline, folder, CLASSES)
    written = folder / MANIFEST
    true = json.loads(written.read_text(encoding="utf-8"))

    def read(data: bytes) -> None:
        # The digests of this folder's files cannot be guessed; where an input writes @, they stand.
        for name, digest in true["sha256"].items():
            data = data.replace(f"@{name}".encode(), digest.encode())
        written.write_bytes(data)
        with suppress(AgnewsError):
            assert len(load_model(folder).predict(TEXTS[:2]).labels) == 2

    return read


def _archive(folder: Path) -> Reader:
    """Make the loader of a skops archive whose schema is the input, in a folder whose manifest is true."""
    from agnews_exp.models.persistence import MODEL_FILE, load_pipeline, save_pipeline, write_manifest

    save_pipeline(fitted_model().pipeline, folder, CLASSES)
    path = folder / MODEL_FILE
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def read(data: bytes) -> None:
        schema = _spliced(parts["schema.json"], data)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (parts | {"schema.json": schema}).items():
                archive.writestr(name, content)
        write_manifest(folder, "classical", CLASSES)
        with suppress(AgnewsError):
            load_pipeline(folder)

    return read


def _spliced(content: bytes, data: bytes) -> bytes:
    """Put bytes into a long content: two of them say where, two how much they replace."""
    if len(data) < 4:
        return content
    at, length = int.from_bytes(data[:2]) % len(content), int.from_bytes(data[2:4]) % 64
    return content[:at] + data[4:] + content[at + length :]


def _overrides(_folder: Path) -> Reader:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    def read(data: bytes) -> None:
        words = [word for word in data.decode("utf-8", "surrogatepass").split("\n")[:3] if word]
        with suppress(AgnewsError):
            to_plain(compose_config(words))

    return _of_text(read)


def _target_paths(_folder: Path) -> Reader:
    from agnews_exp.config.targets import resolve_target

    def read(data: bytes) -> None:
        with suppress(AgnewsError):
            assert callable(resolve_target(data.decode("utf-8"), "model._target_"))

    return _of_text(read)


def _cells(_folder: Path) -> Reader:
    from agnews_exp.core.text import has_control, is_name, markdown_cell, spreadsheet_cell, visible

    def read(data: bytes) -> None:
        text = data.decode("utf-8")
        cell = spreadsheet_cell(text)
        with suppress(ValueError):
            float(text)
            assert not text.isascii() or cell == text or text.strip() != text
        if not cell or cell[0] in "=@\t\r\n":
            assert not cell, cell
        shown = visible(text)
        assert not has_control(shown.replace("\n", "").replace("\t", "")), shown
        in_table = markdown_cell(text)
        assert len(in_table.splitlines()) <= 1, in_table
        assert "|" not in in_table.replace(r"\|", ""), in_table
        assert "<script" not in in_table.lower(), in_table
        assert not is_name(text) or text == visible(text)

    return _of_text(read)


def _of_text(read: Reader) -> Reader:
    def only_text(data: bytes) -> None:
        with suppress(UnicodeDecodeError):
            data.decode("utf-8")
            read(data)

    return only_text


_TABLE = b'\0text,label\na goal,x\n"a, ""b""\nc",y\n'
_LINES = b'\0{"text": "a goal", "label": "x"}\n{"text": "b\\ud83d\\ude00", "label": 3}\n'
_MANIFEST = (
    b'{"format": 1, "family": "classical", "class_names": ["Sports", "Business"], "types": [], '
    b'"sha256": {"model.skops": "@model.skops"}}'
)

TARGETS: Mapping[str, Target] = {
    "csv": Target(
        "CSV files, read for training and for answering", _rows(".csv"),
        [_TABLE, b"\1one,a\ntwo,b\n", b"\2" + "text,label\nä,x\nb,y\n".encode("utf-16"),
         b"\0\xef\xbb\xbftext,label\r\n"],
        ["text,label\n", '"', '""', "\r\n", "\0", "label", ",x\n"],
    ),
    "jsonl": Target(
        "JSON lines, read for training and for answering", _rows(".jsonl"),
        [_LINES, b'\0{"text": "a", "label": "b"}\n', b"\0[1]\n\n{}\n"],
        ['{"text": "', '"label": ', "\\ud800", "NaN", "1e999", "[[[[", "\\u0000", "}\n"],
    ),
    "manifest": Target(
        "manifest.json of a model folder", _manifest,
        [_MANIFEST, _MANIFEST.replace(b"1", b"2", 1), b'{"format": 1, "sha256": {"../x": ""}}', b"[]"],
        ['"format"', '"family"', '"classical"', '"transformer"', '"onnx"', '"cascade"', '"class_names"', '"sha256"',
         "@model.skops", "model.skops", '"checksum"', "../", "NaN", "null", "1e999"],
    ),
    "archive": Target(
        "schema.json of a skops archive", _archive,
        [b"\0\0\0\0", b"\0\x10\0\x02null", b"\1\0\0\x04\"os\""],
        ['"__class__"', '"__module__"', '"__loader__"', '"os"', '"system"', '"content"', "null", "[]", "{}", '"type"',
         '"__id__"', '"FunctionNode"', '"MethodNode"', '"ReduceNode"', '"ObjectNode"', '"TypeNode"'],
    ),
    "overrides": Target(
        "overrides of the command line, up to the plain configuration", _overrides,
        [b"model=linear_svc\nmodel.C=0.5", b"data=sample\nseed=3", b"+tags={a:[1,2]}", b"name=${oc.env:HOME}",
         b"~tags"],
        ["model=", "data=", "features=", "experiment=", "tuning=", "${", "}", "oc.env:", "oc.decode:", "oc.select:",
         "[", "{", "???", "null", "++", "~", "@", "range(1,3)", "hydra.", "_target_", "'", '"', "\\"],
    ),
    "targets": Target(
        "dotted paths in _target_", _target_paths,
        [b"sklearn.svm.LinearSVC", b"agnews_exp.models.nbsvm.NBSVM", b"os.system"],
        ["agnews_exp.", "sklearn.", "features.", "models.", "data.", "os", "system", "__", ".."],
    ),
    "cells": Target(
        "texts in spreadsheets, Markdown and terminals", _cells,
        [b"=1+1", b"a|b", b"[a](b)", b"<script>", b"-0.5", "＝a".encode(), b"\x1b[2J"],
        ["=", "\\|", "|", "\\", "<script", "](", "\u202e", "\x85", "\u2028", "1e5", "_"],
    ),
}  # fmt: skip
"""By name."""


def emptied(folder: Path) -> Path:
    """Return a folder that is there and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder

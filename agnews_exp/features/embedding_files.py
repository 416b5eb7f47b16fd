"""Reading word vectors: GloVe text, word2vec text and word2vec binary files, plain or gzipped."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import ConfigError, DataError

_FORMATS = "GloVe text, word2vec text or word2vec binary, plain or .gz"


def check_embedding_file(path: str | None) -> Path:
    """Return the path of an embeddings file that exists.

    Raises:
        ConfigError: No file was named.
        DataError: The file does not exist.
    """
    if not path:
        raise ConfigError(
            f"features.embeddings_path is not set.\n  allowed: a file of word vectors ({_FORMATS})",
            fix="features.embeddings_path=/path/to/glove.6B.100d.txt (word2vec_trained needs no file)",
        )
    found = Path(path).expanduser()
    if not found.is_file():
        siblings = sorted(p.name for p in found.parent.glob("*")) if found.parent.is_dir() else []
        near = f" The folder holds: {', '.join(siblings[:8])}." if siblings else ""
        raise DataError(
            f"features.embeddings_path={path}: there is no such file.{near}",
            fix="give the path of a word-vector file, or use features=word2vec_trained, which needs none",
        )
    return found


def read_word_vectors(path: Path, max_words: int | None = None) -> tuple[list[str], NDArray[np.float32]]:
    """Read a file of word vectors.

    The format is told from the content: a first line of two integers opens a word2vec file, text or binary by
    what follows; anything else is GloVe text. A word that comes twice keeps its first vector.

    Args:
        path: The file; ``.gz`` is unpacked while reading.
        max_words: Stop after that many words (files are sorted by frequency); None reads all.

    Returns:
        V words and their vectors, shape (V, D), float32.

    Raises:
        DataError: The file is empty or damaged; the text names the line or word number.
    """
    with _open(path) as stream:
        try:
            first = stream.readline()
            header = first.split()
            if len(header) == 2 and all(part.isdigit() for part in header):
                words, vectors = _read_word2vec(stream, path, int(header[0]), int(header[1]), max_words)
            else:
                words, vectors = _read_text(stream, path, len(first.rstrip().split(b" ")) - 1, max_words, first)
        except (EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: the compressed file is damaged ({error}).") from error
    if not words:
        raise DataError(f"{path} holds no word vectors.\n  allowed: {_FORMATS}")
    position: dict[str, int] = {}
    for i, word in enumerate(words):
        position.setdefault(word, i)
    if len(position) < len(words):
        return list(position), vectors[list(position.values())]
    return words, vectors


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _read_word2vec(
    stream: IO[bytes], path: Path, count: int, dimension: int, max_words: int | None
) -> tuple[list[str], NDArray[np.float32]]:
    if dimension == 0:
        raise DataError(f"{path}, line 1: the header says that vectors have 0 dimensions.")
    wanted = count if max_words is None else min(count, max_words)
    start = stream.readline()
    if _is_text_row(start, dimension):
        words, vectors = _read_text(stream, path, dimension, wanted, start, first_line=2)
    else:
        stream.seek(0)
        stream.readline()
        words, vectors = _read_binary(stream, path, wanted, dimension)
    if len(words) < wanted:
        raise DataError(f"{path}: the header promises {count} words, but the file ends after {len(words)}.")
    return words, vectors


def _is_text_row(line: bytes, dimension: int) -> bool:
    try:
        fields = line.decode("utf-8").rstrip().rsplit(" ", dimension)
        _ = [float(field) for field in fields[1:]]
    except ValueError:
        return False
    return len(fields) == dimension + 1


def _read_text(
    stream: IO[bytes], path: Path, dimension: int, max_words: int | None, start: bytes, first_line: int = 1
) -> tuple[list[str], NDArray[np.float32]]:
    if dimension < 1:
        raise DataError(f"{path}, line {first_line}: no word with numbers after it.\n  allowed: {_FORMATS}")
    words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    line, number = start, first_line
    while line and (max_words is None or len(words) < max_words):
        try:
            # From the right: a few words of the large GloVe files hold spaces.
            word, *fields = line.decode("utf-8", "replace").rstrip().rsplit(" ", dimension)
            row = np.array(fields, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.\n  allowed: {_FORMATS}") from error
        if len(row) != dimension or not np.isfinite(row).all():
            raise DataError(f"{path}, line {number}: expected a word and {dimension} finite numbers, found {len(row)}.")
        words.append(word)
        rows.append(row)
        line, number = stream.readline(), number + 1
    return words, np.vstack(rows) if rows else np.zeros((0, dimension), np.float32)


def _read_binary(stream: IO[bytes], path: Path, wanted: int, dimension: int) -> tuple[list[str], NDArray[np.float32]]:
    width = 4 * dimension
    words: list[str] = []
    # The header's count is not believed before the bytes are there: a damaged one could ask for all memory.
    rows: list[NDArray[np.float32]] = []
    for _ in range(wanted):
        letters = bytearray()
        while (letter := stream.read(1)) not in (b" ", b""):
            if letter != b"\n":
                letters += letter
        payload = stream.read(width)
        if len(payload) < width:
            raise DataError(f"{path}: the file ends inside word {len(words) + 1} of {wanted}.")
        words.append(letters.decode("utf-8", "replace"))
        rows.append(np.frombuffer(payload, dtype="<f4"))
    return words, np.vstack(rows) if rows else np.zeros((0, dimension), np.float32)

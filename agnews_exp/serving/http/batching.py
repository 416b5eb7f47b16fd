"""Many small requests answered together: what waits while the model works is its next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agnews_exp.evaluation.predictions import Predictions

Answerer = Callable[[list[str]], Predictions]


class OverloadedError(Exception):
    """Too many requests are waiting."""


@dataclass(eq=False)
class _Request:
    texts: Sequence[str]
    future: asyncio.Future[Predictions] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Answers texts of concurrent requests in common batches, one at a time, in a thread of its own.

    Nothing is delayed to fill a batch: with an idle model a request is answered at once, with a busy one all that has
    come meanwhile goes together.

    Args:
        answer: The model.
        batch_size: Texts of a batch at most; a single larger request is a batch of its own.
        max_waiting: Requests at work or waiting at most.
        on_batch: Told the number of texts of each batch.
    """

    def __init__(
        self, answer: Answerer, *, batch_size: int, max_waiting: int, on_batch: Callable[[int], None] = lambda _n: None
    ) -> None:
        self._answer = answer
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self.on_batch = on_batch
        self._queue: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(1, "model")
        self._worker: asyncio.Task[None] | None = None
        self._open = 0

    @property
    def waiting(self) -> int:
        """Requests at work or waiting."""
        return self._open

    async def answer(self, texts: Sequence[str]) -> Predictions:
        """Answer a request's texts.

        Raises:
            OverloadedError: Too many requests wait already.
        """
        if self._open >= self._max_waiting:
            raise OverloadedError
        request = _Request(texts)
        self._open += 1
        try:
            self._queue.append(request)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.get_running_loop().create_task(self._work())
            return await request.future
        finally:
            self._open -= 1

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            texts = [text for request in batch for text in request.texts]
            self.on_batch(len(texts))
            try:
                answers = await loop.run_in_executor(self._thread, self._answer, texts)
            except Exception as error:
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)
                continue
            start = 0
            for request in batch:
                end = start + len(request.texts)
                if not request.future.done():  # given up by its client or its time limit
                    request.future.set_result(_part(answers, start, end))
                start = end

    def _next_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        n = 0
        while self._queue and (not batch or n + len(self._queue[0].texts) <= self._batch_size):
            request = self._queue.popleft()
            if request.future.done():
                continue
            batch.append(request)
            n += len(request.texts)
        return batch

    def close(self) -> None:
        """End the thread after the batch at work."""
        self._thread.shutdown(wait=True)


def _part(answers: Predictions, start: int, end: int) -> Predictions:
    def cut(values: np.ndarray[Any, Any] | None) -> Any:
        return None if values is None else values[start:end]

    return Predictions(answers.labels[start:end], cut(answers.scores), cut(answers.probabilities))

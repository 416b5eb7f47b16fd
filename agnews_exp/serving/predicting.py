"""Answering a stream of texts in batches, with bounded memory, so that a cut-off can be gone on with."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.core.errors import ConfigError
from agnews_exp.core.processes import cpu_count
from agnews_exp.evaluation.conformal import prediction_sets, set_thresholds
from agnews_exp.evaluation.costs import DECISION, Decision
from agnews_exp.evaluation.stored_answers import stored_answers
from agnews_exp.evaluation.tasks import refuse_left_out, task_of_record
from agnews_exp.models.answers import FittedModel, task_of_model
from agnews_exp.models.persistence import read_manifest
from agnews_exp.serving.explaining import WordExplainer, top_words, word_explainer
from agnews_exp.serving.inputs import Item, Source, read_items
from agnews_exp.serving.outputs import LineOutput, Output, holds, open_output, partial
from agnews_exp.tracking.record import PREDICTIONS, RESULT, read_json, write_json

_SAVE_EVERY_S = 5.0


@dataclass(frozen=True)
class Answering:
    """The content of an answer, and how many texts are answered at once."""

    top_k: int = 1  # so many most likely classes, the label included
    probabilities: bool = False  # whether every class' probability is given
    with_text: bool = False  # whether the text is given back
    batch_size: int = 2048  # texts in a batch
    explain: int = 0  # so many words with their weights; 0 gives none
    # Threshold of each class, K of them, by which the set of classes that may be right is given; none gives no sets
    sets: tuple[float, ...] = ()
    decision: Decision | None = None  # the rule by which the label is chosen; none leaves it to the model


@dataclass(frozen=True)
class Outcome:
    """The counts of an answered stream."""

    answered: int  # texts that were answered
    rejected: int  # rows that were not, see the rejects file
    resumed_at: int  # rows that an earlier call had done
    seconds: float  # time spent


def thresholds_of(model: Path, class_names: tuple[str, ...], coverage: float | None) -> tuple[float, ...]:
    """Return the threshold of each class, K of them, by which sets hold the right class with a chance of ``coverage``.

    They come from the validation answers that lie beside a run's model (:mod:`agnews_exp.evaluation.conformal`, lac);
    without a coverage there are none.

    Raises:
        ConfigError: The coverage is no share, or there are no such answers, or they fitted the model (a cascade's).
    """
    if coverage is None:
        return ()
    refuse_left_out(task_of_record(read_json(model.parent / RESULT) or {}), "sets", f"--sets: {model.parent.name}")
    if not 0 < coverage < 1:
        raise ConfigError(f"--sets {coverage:g}: it must lie between 0 and 1.", fix="--sets 0.95")
    stored = model.parent / PREDICTIONS
    if not stored.is_file():
        raise ConfigError(f"--sets needs the run's validation answers, and {stored} is not there.", fix="name the run")
    if (read_json(model.parent / RESULT) or {}).get("family") == "cascade":
        raise ConfigError(
            "--sets needs validation rows that fitted nothing, and a cascade or blend is fitted on them.",
            fix="name one of its two models",
        )
    found = stored_answers(stored, "val", class_names)
    return tuple(set_thresholds(found.labels, found.given.confidences, coverage, "lac").tolist())


def decision_of(model: Path) -> Decision | None:
    """Return the rule that the run's validation rows chose by ``evaluation.costs``, where it is another than usual."""
    if DECISION not in read_manifest(model)["sha256"]:
        return None
    return Decision.of(json.loads((model / DECISION).read_text(encoding="utf-8")))


def answer_rows(
    items: Sequence[Item], model: FittedModel, answering: Answering, explainer: WordExplainer | None = None
) -> list[dict[str, Any]]:
    """Answer a batch of good rows."""
    texts = [item.text or "" for item in items]
    answer = model.predict(texts)
    if answering.decision is not None:
        answer = answering.decision.apply(answer)
    names = model.class_names
    said = answer.task.names(answer.labels, names)
    rows = [{"line": item.line, answer.task.key: label} for item, label in zip(items, said, strict=True)]
    if answering.with_text:
        for row, text in zip(rows, texts, strict=True):
            row["text"] = text
    if explainer is not None:
        for row, explanation in zip(rows, explainer(texts, answer.labels), strict=True):
            row["words"] = top_words(explanation, answering.explain)
    if answer.unparsed is not None:
        for row, none in zip(rows, answer.unparsed, strict=True):
            row["label"] = None if none else row["label"]
    bare = answering.top_k == 1 and not answering.probabilities and not answering.sets
    if answer.probabilities is None and answer.scores is None and bare:
        return rows
    values = answer.confidences
    for row, sure in zip(rows, answer.task.sure(answer.labels, values), strict=True):
        row["confidence"] = sure
    if answering.top_k > 1:
        order = np.argsort(-values, axis=1, kind="stable")[:, : answering.top_k]
        for i, row in enumerate(rows):
            for rank, k in enumerate(order[i], start=1):
                row |= {f"label_{rank}": names[k], f"confidence_{rank}": round(float(values[i, k]), 6)}
    if answering.sets:
        for row, held in zip(rows, prediction_sets(values, answering.sets, "lac"), strict=True):
            row["set"] = json.dumps([names[k] for k in np.flatnonzero(held)], ensure_ascii=False)
    if answering.probabilities:
        for i, row in enumerate(rows):
            row |= {f"confidence:{name}": round(float(values[i, k]), 6) for k, name in enumerate(names)}
    return rows


def columns_of(model: FittedModel, answering: Answering) -> list[str]:
    """Return the columns of an answer."""
    columns = ["line", task_of_model(model).key, *(["text"] if answering.with_text else [])]
    columns += [*(["words"] if answering.explain else []), "confidence"]
    if answering.top_k > 1:
        ranks = range(1, min(answering.top_k, len(model.class_names)) + 1)
        columns += [f"{name}_{rank}" for rank in ranks for name in ("label", "confidence")]
    columns += ["set"] if answering.sets else []
    return columns + ([f"confidence:{name}" for name in model.class_names] if answering.probabilities else [])


def predict_stream(
    source: Source,
    model: FittedModel,
    output: Path | None,
    *,
    answering: Answering,
    identity: str,
    force: bool = False,
    progress: Callable[[int], None] = lambda _done: None,
) -> Outcome:
    """Answer all rows of a source.

    Good rows are all answered; bad ones go to ``<output>.rejects.jsonl`` with line and reason. Until all are, the files
    are called ``<output>.part`` and ``<output>.rejects.jsonl.part``. A call that is cut off leaves them, and
    ``<output>.progress.json``, with which the same call again goes on.

    ``identity`` is of the model: another one does not go on with this one's file. The output is ``.csv``, ``.jsonl`` or
    ``.parquet``, or None for standard output, which cannot be gone on with; ``progress`` is told the number of rows
    that are done.

    Raises:
        ConfigError: The output is there already, or the model cannot be explained.
    """
    start = time.monotonic()
    if answering.explain:
        refuse_left_out(task_of_model(model), "explain", "--explain: the model")
    explainer = word_explainer(model) if answering.explain else None
    rows = read_items(source)
    first = list(itertools.islice(rows, 1))  # a column that is not there is an error before there is any output
    job = _Job(source, output, identity, answering, columns_of(model, answering), force)
    items = itertools.islice(itertools.chain(first, rows), job.done, None)
    batches = iter(lambda: list(itertools.islice(items, answering.batch_size)), [])
    saved = start

    def answer(batch: list[Item]) -> list[dict[str, Any]]:
        good = [item for item in batch if item.text is not None]
        return answer_rows(good, model, answering, explainer) if good else []

    for batch, answers in _in_order(batches, answer, cpu_count() if getattr(model, "many_threads", False) else 1):
        job.answers.write(answers)
        job.reject([item for item in batch if item.text is None])
        job.done += len(batch)
        progress(job.done)
        if time.monotonic() - saved > _SAVE_EVERY_S:
            job.save()
            saved = time.monotonic()
    job.finish()
    seconds = time.monotonic() - start
    return Outcome(job.done - job.rejected, job.rejected, job.resumed_at, seconds)


def _in_order(
    batches: Iterable[list[Item]], answer: Callable[[list[Item]], list[dict[str, Any]]], threads: int
) -> Iterator[tuple[list[Item], list[dict[str, Any]]]]:
    """Answer batches on several threads while others are read and written; yield each with its answers, in order."""
    waiting: deque[tuple[list[Item], Future[list[dict[str, Any]]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(answer, batch)))
            if len(waiting) > threads:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Job:
    """The files of one call: answers, rejects, and how far they are."""

    def __init__(
        self,
        source: Source,
        output: Path | None,
        identity: str,
        answering: Answering,
        columns: list[str],
        force: bool,
    ) -> None:
        self._output = output
        self._columns = columns
        self.done = self.rejected = self.resumed_at = 0
        self._identity = _identity_of(source, identity, answering)
        earlier = self._earlier(force)
        if earlier is not None:
            self.done = self.resumed_at = int(earlier["done"])
            self.rejected = int(earlier["rejected"])
        self.answers: Output = open_output(output, columns, None if earlier is None else int(earlier["answers"]))
        self._rejects: LineOutput | None = None
        if earlier is not None and earlier["rejects"]:
            self._rejects = LineOutput(self._beside("rejects.jsonl"), "jsonl", [], int(earlier["rejects"]))

    def _beside(self, suffix: str) -> Path:
        assert self._output is not None
        return self._output.with_name(f"{self._output.name}.{suffix}")

    def _earlier(self, force: bool) -> dict[str, Any] | None:
        if self._output is None:
            return None
        self._output.parent.mkdir(parents=True, exist_ok=True)
        note = read_json(self._beside("progress.json"))
        fix = "--force, which begins anew, or another --output"
        if self._output.exists() and not force:
            raise ConfigError(f"{self._output} is there already.", fix=fix)
        if note is not None and not force:
            if note.get("identity") != self._identity:
                raise ConfigError(
                    f"{self._output} is there already, unfinished: an earlier call with another model, input or other "
                    "options was cut off.",
                    fix=fix,
                )
            for path, key in ((self._output, "answers"), (self._beside("rejects.jsonl"), "rejects")):
                if not holds(path, int(note[key])):
                    raise ConfigError(f"{partial(path)} is shorter than an earlier call left it, or gone.", fix=fix)
            return note
        rejects = self._beside("rejects.jsonl")
        for path in (self._beside("progress.json"), rejects, partial(rejects)):
            path.unlink(missing_ok=True)
        return None

    def reject(self, items: Sequence[Item]) -> None:
        """Note rows that cannot be answered."""
        self.rejected += len(items)
        if not items:
            return
        if self._output is None:
            import sys

            for item in items:
                print(f"line {item.line}: {item.reason}", file=sys.stderr)
            return
        if self._rejects is None:
            self._rejects = LineOutput(self._beside("rejects.jsonl"), "jsonl", [])
        self._rejects.write([{"line": item.line, "reason": item.reason} for item in items])

    def save(self) -> None:
        """Note how far all files are, after they are on the disk."""
        if self._output is None:
            return
        answers = self.answers.position()
        rejects = self._rejects.position() if self._rejects else 0
        note = {"identity": self._identity, "done": self.done, "rejected": self.rejected}
        write_json(self._beside("progress.json"), note | {"answers": answers, "rejects": rejects})

    def finish(self) -> None:
        """Complete all files, the answers last; nothing is left to go on with."""
        if self._rejects:
            self._rejects.close()
        self.answers.close()
        if self._output is not None:
            self._beside("progress.json").unlink(missing_ok=True)


def _identity_of(source: Source, model: str, answering: Answering) -> str:
    facts: list[Any] = [model, vars(answering), vars(source.how), source.columns]
    if source.path is not None:
        for path in sorted(source.path.rglob("*")) if source.path.is_dir() else [source.path]:
            status = path.stat()
            facts += [str(path.resolve()), status.st_size, status.st_mtime_ns]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()

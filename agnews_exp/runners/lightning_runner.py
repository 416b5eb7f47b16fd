"""The runner of transformers and small networks, which Lightning trains."""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.errors import AgnewsError
from agnews_exp.data.corpus import Splits
from agnews_exp.data.datamodule import EncodedRows
from agnews_exp.data.soft_targets import SoftTargets
from agnews_exp.data.tokens import CorpusTokens, TokenTable, frame_of, tokenize
from agnews_exp.evaluation.metrics import find_objective, own_metrics
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import task_of
from agnews_exp.evaluation.thresholds import choose_thresholds
from agnews_exp.models.answers import predictions_of
from agnews_exp.models.encoders import load_tokenizer, merge_adapters, settled
from agnews_exp.models.inference import TextPredictor, save_predictor
from agnews_exp.models.recipes import EncoderRecipe, PretrainedEncoder
from agnews_exp.models.transformer import NonFiniteLoss
from agnews_exp.runners.callbacks import CheckpointFolder
from agnews_exp.runners.devices import choose_hardware, set_threads
from agnews_exp.runners.protocol import FitSummary, Stages
from agnews_exp.runners.rows import class_weights
from agnews_exp.runners.training import (
    Job,
    Listeners,
    calmer,
    changed,
    check_job,
    explain_memory,
    fitting_batch_size,
    new_network,
    train,
)

log = logging.getLogger(__name__)

_FEW = 1000
"""Most texts that are tokenised anew each time: not worth a file, and latencies must include the tokenising."""


def computing_of(checked: CheckedConfig) -> dict[str, Any]:
    """Return what a network's answers depend on of how this machine computes them.

    That is the ``precision``, by Lightning's name, such as ``bf16-mixed``, and, where several processes train a network
    with dropout or a contrastive loss, the number of ``processes``: each draws masks for its own part of a batch, and
    contrasts it alone.
    """
    recipe = safe_instantiate(checked.component("model"), "model")
    recipe = getattr(recipe, "student", recipe)
    hardware = choose_hardware(checked.run.trainer, large=recipe.large)
    found: dict[str, Any] = {"precision": hardware.precision}
    if checked.run.trainer.batch_size == "auto" and hardware.accelerator == "cuda":
        device = torch.cuda.get_device_properties(hardware.device())
        found["memory"] = f"{hardware.world_size} x {device.name}, {device.total_memory >> 30} GiB"
    if hardware.world_size > 1 and (recipe.has_dropout or recipe.loss == "supervised_contrastive"):
        found["processes"] = hardware.world_size
    return found


class LightningRunner:
    """Runs one network, with a teacher's answers for the training rows where there are any.

    Checkpoints and curves, those of this fingerprint, go into the folder; without one nothing is kept.
    """

    def __init__(
        self,
        checked: CheckedConfig,
        *,
        folder: Path | None = None,
        fingerprint: str = "",
        soft: SoftTargets | None = None,
    ) -> None:
        self._soft = soft
        self._settings = checked.run.trainer
        self._seed: int = checked.run.seed
        self._recipe = safe_instantiate(checked.component("model"), "model")
        self._name: str = checked.run.model.name
        self._class_weight = checked.run.model.class_weight
        self._cache_dir = Path(checked.plain["paths"]["cache_dir"])
        self._primary: str = checked.run.evaluation.primary
        self._own = own_metrics(checked.run.evaluation.metrics)
        self._rule = checked.run.evaluation.thresholds
        self._callbacks, self._logger = checked.run.callbacks, checked.run.logger
        self._folder, self._fingerprint = folder, fingerprint
        self._resume = checked.run.resume == "auto"
        self._predictor: TextPredictor | None = None
        self._corpus: CorpusTokens | None = None
        self._validation: tuple[Sequence[str], NDArray[np.float32]] | None = None

    def fit(self, splits: Splits, stages: Stages) -> FitSummary:
        """Train on ``splits.train``; the weights with the best primary metric on validation rows are kept.

        Raises:
            AgnewsError: The weights or the device are not there, or memory ran out.
        """
        if self._folder is not None:
            return self._fit_in(self._folder, splits, stages)
        with tempfile.TemporaryDirectory(prefix="agnews-fit-") as name:
            return self._fit_in(Path(name), splits, stages)

    def _fit_in(self, folder: Path, splits: Splits, stages: Stages) -> FitSummary:
        checkpoints = CheckpointFolder(folder, self._fingerprint)
        hardware = choose_hardware(self._settings, large=self._recipe.large)
        weights = class_weights(self._class_weight, splits.train.labels, splits.class_names)
        set_threads(self._settings.n_jobs, 1)
        with self._stage(stages, "features", f"tokenising {len(splits.train) + len(splits.validation):,} texts"):
            self._recipe = settled(self._recipe)
            tokenizer = load_tokenizer(self._recipe, splits.train.texts)
            if splits.corpus is not None and isinstance(self._recipe, PretrainedEncoder):
                # A vocabulary made from the training texts is another one for every fraction and fold.
                texts = splits.corpus.texts
                self._corpus = CorpusTokens(texts, tokenizer, self._cache_dir, progress=self._progress)
            frame = frame_of(tokenizer)
            train_rows, validation_rows = (
                EncodedRows(
                    self._tokens(rows.texts, tokenizer), rows.labels, frame, self._recipe.longest,
                    long_texts=self._recipe.long_texts,
                )
                for rows in (splits.train, splits.validation)
            )  # fmt: skip
            # A text of many windows must not fill the memory, which holds what its gradients need.
            budget = self._settings.token_budget
            most = None if budget is None else budget // self._recipe.longest
            train_rows = replace(train_rows, soft=self._soft, most=most)
        job = Job(
            recipe=self._recipe,
            settings=self._settings,
            hardware=hardware,
            tokenizer=tokenizer,
            class_names=splits.class_names,
            train=train_rows,
            validation=validation_rows,
            checkpoints=checkpoints,
            seed=self._seed,
            monitor=find_objective(self._primary, splits.class_names, self._own, task_of(splits.train.labels)),
            class_weights=None if weights is None else tuple(weights.tolist()),
            callbacks=tuple(self._callbacks),
            logger=self._logger if self._folder is not None else None,
        )
        if self._settings.batch_size == "auto":
            size = fitting_batch_size(job)
            log.info("trainer.batch_size=auto: %d rows a batch", size)
            job = replace(job, settings=self._settings.model_copy(update={"batch_size": size}))
        check_job(job)
        with checkpoints.opened(resume=self._resume):
            summary = checkpoints.finished()
            changes = checkpoints.changes()
            job = changed(job, changes)
            if summary is None:
                n = hardware.world_size
                on = hardware.accelerator if n == 1 else f"{n} x {hardware.accelerator}"
                with self._stage(stages, "fit", f"training {self._name} on {on}, {job.hardware.precision}"):
                    try:
                        summary = self._train(job, stages)
                    except NonFiniteLoss as error:
                        if changes:
                            raise
                        changes = {**calmer(job), "reason": error.message}
                        log.warning("%s Training again from the start.", error.message)
                        checkpoints.begin_again(changes)
                        job = changed(job, changes)
                        summary = self._train(job, stages)
                if self._settings.batch_size == "auto":
                    summary = {**summary, "batch_size": float(job.settings.batch_size)}
                checkpoints.finish(summary)
            self._recipe = job.recipe
            self._predictor = self._best_predictor(job, splits.validation.texts)
        if not task_of(splits.train.labels).one_answer:
            self._predictor.thresholds = np.full(len(splits.class_names), 0.5)
            if self._rule is not None:
                given = self.predict(splits.validation.texts).confidences
                metric = self._primary.partition("/")[2]
                self._predictor.thresholds = choose_thresholds(splits.validation.labels, given, self._rule, metric)
        notes = []
        if reason := changes.pop("reason", None):
            notes = [f"{reason} Trained again from the start with {', '.join(f'{k}={v}' for k, v in changes.items())}."]
        return FitSummary(dict(summary), notes)

    def _tokens(self, texts: Sequence[str], tokenizer: Any) -> TokenTable:
        if len(texts) <= _FEW:
            return tokenize(texts, tokenizer, None)
        if self._corpus is not None and (found := self._corpus.table(texts)) is not None:
            return found
        return tokenize(texts, tokenizer, self._cache_dir, progress=self._progress)

    @property
    def _progress(self) -> bool:
        wanted = self._settings.progress_bar
        return sys.stderr.isatty() if wanted == "auto" else bool(wanted)

    @contextmanager
    def _stage(self, stages: Stages, name: str, what: str) -> Iterator[None]:
        """Time a stage; without a spinner where a progress bar is shown."""
        if not self._progress:
            with stages.stage(name, what):
                yield
            return
        log.info("%s", what)
        inner = Stages(quiet=True)
        with inner.stage(name, what):
            yield
        stages.timings[name] = stages.timings.get(name, 0.0) + inner.timings[name]

    def _train(self, job: Job, stages: Stages) -> dict[str, float]:
        # A search compares objectives: it hears of validations only where these are its objective.
        report = stages.report_intermediate if stages.reports and self._primary.startswith("val/") else None
        listeners = Listeners(report, progress=self._progress)
        if job.hardware.world_size == 1:
            return train(job, listeners)
        from agnews_exp.runners.distributed import other_ranks

        with other_ranks(job) as environment:
            return train(job, listeners, environment)

    def _best_predictor(self, job: Job, validation_texts: Sequence[str]) -> TextPredictor:
        # The trained copy and its optimiser are gone by now; make room before the best weights come.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        set_threads(self._settings.n_jobs, 1)
        best = job.checkpoints.best()
        assert best is not None, "a training that is over has kept its best weights"
        weights, answers = best
        network = new_network(job)
        network.load_state_dict(weights)
        if isinstance(self._recipe, EncoderRecipe) and self._recipe.lora_rank:
            merge_adapters(network)
        if answers is not None:
            self._validation = (validation_texts, answers)
        return TextPredictor(
            network,
            job.tokenizer,
            job.class_names,
            self._recipe.longest,
            job.hardware.device(),
            job.hardware.precision,
            self._settings.evaluation_batch_size,
            self._settings.token_budget,
            self._recipe.long_texts,
            self._recipe.window_pooling,
        )

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts; the validation texts' answers are those that chose the weights.

        Raises:
            AgnewsError: Memory ran out.
        """
        assert self._predictor is not None, "fit() first"
        if self._validation is not None and texts is self._validation[0]:
            return predictions_of(self._validation[1], self._predictor.thresholds)
        try:
            table = self._tokens(texts, self._predictor.tokenizer)
            return predictions_of(self._predictor.logits(table), self._predictor.thresholds)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            explained: AgnewsError | None = explain_memory(error, self._settings, None)
            if explained is not None:
                explained.fix = f"trainer.evaluation_batch_size={max(1, self._settings.evaluation_batch_size // 4)}"
                raise explained from error
            raise

    def save(self, folder: Path) -> None:
        """Write weights as safetensors, configuration and tokenizer as JSON."""
        assert self._predictor is not None, "fit() first"
        save_predictor(self._predictor, self._recipe, folder)

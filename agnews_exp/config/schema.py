"""The typed schema of a run: every group and scalar, its type, its range, and what it means.

Component groups (data, subset, model, features.blocks) add their own arguments, which are checked against the
signature of their ``_target_`` instead (see :mod:`agnews_exp.config.targets`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agnews_exp.core.text import has_control

Fraction = Annotated[float, Field(gt=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Threads = Annotated[int, Field(ge=-1)]

Component = dict[str, Any]


def _shown(text: str) -> str:
    if has_control(text):
        raise ValueError("it holds control characters")
    return text


def _share_or_rows(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError("a share should be less than or equal to 1, and a number of rows whole")
    return value


Name = Annotated[str, Field(min_length=1, max_length=250), AfterValidator(_shown)]
"""A name that is shown in tables, terminals and MLflow."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, protected_namespaces=())


class PathsConfig(_Group):
    """The folders that a run writes to."""

    root_dir: str
    output_dir: str = Field(description="run folders and caches")
    cache_dir: str
    mlruns_dir: str = Field(description="mlflow.db and artifacts/")


class DataConfig(BaseModel):
    """A data source: the keys of every source; the rest are arguments of its ``_target_``."""

    model_config = ConfigDict(extra="allow")

    name: Name
    target: str = Field(alias="_target_")
    validation_size: OpenFraction = Field(description="share of the training file that is validation")
    test_size: OpenFraction = Field(0.15, description="share cut off as test where the source has no test rows")


class SplitConfig(_Group):
    """The way of dividing the rows into training, validation and test rows."""

    name: Literal["stratified", "group", "time", "files"] = "stratified"
    column: str | int | None = Field(None, description="the column that split=group and split=time go by")


class SubsetConfig(BaseModel):
    """The way of taking ``data_fraction`` of the training rows."""

    model_config = ConfigDict(extra="allow")

    name: str
    target: str = Field(alias="_target_")


class FeaturesConfig(_Group):
    """The way from texts to the model's input."""

    name: Name
    kind: Literal["sparse", "dense", "text"] = Field(description="what the model gets")
    clean: Literal["none", "basic", "aggressive", "moderate", "minimal", "expansion"]
    tokenizer: str
    stemmer: str
    embeddings_path: str | None = Field(None, description="a GloVe or word2vec file, for static embeddings")
    blocks: dict[str, Component | None] = Field(description="transformers of the texts, side by side; null is off")
    block_weights: dict[str, float]
    select: Component | None
    reduce: Component | None
    scale: Component | None


def _class_name(key: Any) -> Any:
    # Hydra reads the keys of {1: 2.0, true: 1.0} as a number and a truth value; classes are texts.
    return str(key).lower() if isinstance(key, bool) else str(key)


ClassWeight = (
    Literal["balanced", "balanced_subsample"]
    | Annotated[
        dict[Annotated[str, BeforeValidator(_class_name)], Annotated[float, Field(gt=0, allow_inf_nan=False)]],
        Field(min_length=1),
    ]
)
"""Weights of classes in the loss: inverse to their rows, or a number each (1 for a class that is not named)."""


class ModelConfig(BaseModel):
    """A model: the keys of every model; the rest are arguments of its ``_target_``."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    name: Name
    family: Literal["classical", "transformer", "cascade", "answers", "llm"]
    accepts: list[Literal["sparse", "dense", "text"]] = Field(min_length=1, description="kinds of features it takes")
    target: str = Field(alias="_target_")
    class_weight: ClassWeight | None = Field(None, description="balanced, or {class: weight}; null: every row alike")


Positive = Annotated[int, Field(ge=1)]
Batches = Positive | Fraction
"""A number of batches (an integer) or a share of them (with a decimal point)."""


class TrainerConfig(_Group):
    """Hardware and, for transformers, the training loop."""

    name: str
    n_jobs: Threads = Field(description="CPU threads; -1 is all cores")
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = Field(description="auto takes a GPU if there is one")
    devices: Positive | Literal["auto"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        description="how many, or which GPUs; of a CPU: how many processes"
    )
    strategy: Literal["auto", "ddp"] = Field(description="ddp with devices=auto takes all GPUs")
    precision: Annotated[
        Literal["auto", "32", "bf16", "16", "32-true", "bf16-mixed", "16-mixed", "bf16-true"], BeforeValidator(str)
    ] = Field(description="auto: bf16 where the device computes it in hardware")
    max_epochs: Positive
    max_steps: Annotated[int, Field(ge=-1)] = Field(description="optimiser steps; -1 is no limit")
    batch_size: Positive | Literal["auto"] = Field(
        description="rows of a batch, over all processes together; auto: the most that fit"
    )
    evaluation_batch_size: Positive
    token_budget: Positive | None = Field(description="rows times longest row of a batch at most")
    group_by_length: bool = Field(description="batches of rows of like length: hardly any padding")
    accumulate_grad_batches: Positive
    gradient_clip_val: Annotated[float, Field(ge=0)] | None
    gradient_clip_algorithm: Literal["norm", "value"]
    val_check_interval: Batches = Field(description="validate every so many batches, or after this share of an epoch")
    check_val_every_n_epoch: Positive
    limit_train_batches: Batches
    limit_val_batches: Batches
    early_stopping_patience: Positive | None = Field(description="validations without a better primary metric")
    early_stopping_min_delta: Annotated[float, Field(ge=0)]
    log_every_n_steps: Positive
    num_workers: Annotated[int, Field(ge=0)] = Field(description="processes that build batches; 0 is this one")
    checkpoint_every_n_steps: Positive | None
    checkpoint_every_seconds: Annotated[float, Field(gt=0)] | None
    keep_checkpoints: bool = Field(description="keep checkpoints/ after the run has finished")
    deterministic: bool | Literal["warn"]
    benchmark: bool | None = Field(description="let cuDNN choose the fastest kernels by trying")
    detect_anomaly: bool
    profiler: Literal["simple", "advanced"] | None
    progress_bar: bool | Literal["auto"] = Field(description="auto: in a terminal")


Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""What one answer costs, in a unit of the user's own."""


class EvaluationConfig(_Group):
    """The judging of a run: objective, metrics, folds and analyses."""

    name: str
    primary: str = Field(description="the objective: val/<metric> or cv/<metric>, never a test metric")
    thresholds: Literal["one", "per_label"] | None = Field(
        None, description="of sets of classes: chosen on validation rows for F1; null is .5"
    )
    metrics: list[str] = Field([], description="metrics of your own: dotted paths of functions")
    costs: dict[str | int, Cost | dict[str | int, Cost]] | list[list[Cost]] | None = Field(
        None, description="cost of errors by true class, by class and answer, or as a matrix; null is none"
    )
    slices: list[str | int] = Field([], description="columns of your files whose values are judged one by one")
    cluster_column: str | int | None = Field(None, description="column whose equal values are no independent rows")
    folds: Annotated[int, Field(ge=0, le=100)] = Field(description="cross-validation folds; 0 is none")
    latency_repeats: Annotated[int, Field(ge=0, le=1000)]
    score_test: bool = Field(True, description="false leaves the test set alone: the trials of a search")
    analyses: dict[str, Component | None] = Field({}, description="what else is looked into; null is off")

    @model_validator(mode="after")
    def _folds_and_primary_agree(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds=1 is no cross-validation; use 0 (none) or at least 2")
        split, _, metric = self.primary.partition("/")
        if split not in ("val", "cv") or not metric.strip():
            usual = metric.strip() or (split if split not in ("val", "cv", "test", "") else "macro_f1")
            raise ValueError(
                f"primary={self.primary}: validation rows or folds choose, test rows never do;"
                f" write val/{usual} or cv/{usual}"
            )
        if self.primary.startswith("cv/") and self.folds == 0:
            raise ValueError(f"primary={self.primary} needs evaluation.folds >= 2 (evaluation=cv)")
        return self


class TrackingConfig(_Group):
    """Tracking of runs with MLflow."""

    name: str
    enabled: bool
    uri: str | None
    experiment: Name
    log_model: bool
    system_metrics: bool | None
    system_metrics_interval: Annotated[float, Field(gt=0)]


class SweepConfig(_Group):
    """A sweep as a whole (`-m`)."""

    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$", description="folder under outputs/sweeps/"
    )
    resume: str | None = Field(None, description="name of the sweep to go on with")


class RunConfig(_Group):
    """The whole configuration of one run."""

    name: Name
    tags: dict[Name, Annotated[str, Field(max_length=5000), AfterValidator(_shown)] | int | float | bool]
    seed: Seed
    split_seed: Seed
    subset_seed: Seed | Literal["seed"] | None = Field(
        None, description="which rows a data_fraction takes; null: split_seed's, seed: each seed draws rows of its own"
    )
    data_fraction: Annotated[float, Field(gt=0), AfterValidator(_share_or_rows)] = Field(
        description="share of the training rows; from 2 on, a number of rows"
    )
    held_out: OpenFraction | None = Field(
        None, description="share of the rows that a data_fraction takes that is validation; null: the usual rows are"
    )
    force: bool
    resume: Literal["auto"] | None = Field(None, description="auto goes on with this run where it was cut off")
    reference: str | None = Field(None, description="published results to stand beside: a name that ships, or a folder")
    callbacks: list[str | Component] = Field(
        [], description="of a network's training: Lightning's by name, or your own"
    )
    sweep: SweepConfig = SweepConfig()
    paths: PathsConfig
    data: DataConfig
    split: SplitConfig = SplitConfig()
    subset: SubsetConfig
    features: FeaturesConfig
    model: ModelConfig
    trainer: TrainerConfig
    logger: Component | None = Field(None, description="where a network's curves go beside MLflow")
    evaluation: EvaluationConfig
    tracking: TrackingConfig

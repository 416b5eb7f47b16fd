"""From the ``features`` group of a configuration to one unfitted scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agnews_exp.config.targets import safe_instantiate
from agnews_exp.core.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def build_features(config: Mapping[str, Any]) -> Pipeline | None:
    """Build the pipeline clean -> blocks side by side -> select -> reduce -> scale of a plain ``features`` group.

    Null steps are left out. Everything that learns is a step of it, so fitting it on training rows fits everything on
    them only.

    Returns:
        An unfitted pipeline from a list of n texts to an (n, V) matrix, or None for ``kind: text``.
    """
    if config["kind"] == "text":
        return None
    from sklearn.pipeline import Pipeline

    from agnews_exp.features.preprocessing import TextPreprocessor
    from agnews_exp.ngrams import FeatureUnion

    name = config.get("name", "features")
    # A block set to null on the command line (features.blocks.char=null) is switched off.
    described = {key: block for key, block in config["blocks"].items() if block is not None}
    if not described:
        raise ConfigError(f"features={name} has no blocks, so there would be no columns.", fix="features=hybrid_tfidf")
    weights = {}
    for key, weight in (config.get("block_weights") or {}).items():
        if key not in config["blocks"]:
            raise unknown_name("block in features.block_weights", key, list(config["blocks"]))
        if weight != 1.0 and key in described:
            weights[key] = float(weight)

    clean = TextPreprocessor(
        clean=config.get("clean", "none"),
        tokenizer=config.get("tokenizer", "default"),
        stemmer=config.get("stemmer", "none"),
    )
    clean._validate_params()
    blocks = {
        key: safe_instantiate(_reading_tokens(block) if clean.tokenises else block, f"features.blocks.{key}")
        for key, block in described.items()
    }
    steps: list[tuple[str, Any]] = []
    if clean.clean != "none" or clean.tokenises:
        steps.append(("clean", clean))
    if len(blocks) == 1 and not weights:
        steps.append(("blocks", next(iter(blocks.values()))))
    else:
        steps.append(("blocks", FeatureUnion(list(blocks.items()), transformer_weights=weights or None)))
    for step in ("select", "reduce", "scale"):
        described_step = config.get(step)
        if described_step is None:
            continue
        if "_target_" not in described_step:
            raise ConfigError(
                f"features.{step} has arguments but no _target_ that takes them.",
                fix=f"choose one with features/{step}=...",
            )
        steps.append((step, safe_instantiate(described_step, f"features.{step}")))
    return Pipeline(steps)


def check_fitted(features: Pipeline) -> None:
    """Refuse a fitted pipeline with a step that scikit-learn takes for unfitted and would not let transform."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    for step, estimator in features.steps:
        parts = getattr(estimator, "transformer_list", [(step, estimator)])
        for name, part in parts:
            try:
                check_is_fitted(part)
            except NotFittedError as error:
                where = f"features.blocks.{name}" if len(parts) > 1 else f"features.{step}"
                raise ConfigError(
                    f"{where}: fit of {type(part).__name__} set no attribute that ends in '_', by which scikit-learn "
                    "knows what is fitted.",
                    fix="set one in fit, such as self.n_columns_ = 3, even where nothing is learnt",
                ) from error


def _reading_tokens(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a word vectoriser take the tokens as they are, instead of splitting them by its own pattern."""
    from agnews_exp.features.preprocessing import TOKEN_PATTERN

    words = block.get("analyzer", "word") == "word" and ("analyzer" in block or "token_pattern" in block)
    return {**block, "token_pattern": TOKEN_PATTERN} if words else block

"""Checks of a composed configuration before any work: types, ranges, targets, and what fits together."""

from __future__ import annotations

import copy
import inspect
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.config.targets import (
    build,
    check_arguments,
    explain_validation,
    find_targets,
    resolve_target,
    validated,
)
from agnews_exp.core.errors import ConfigError, refuse_password, unknown_name
from agnews_exp.core.paths import check_file_name

RESERVED: Mapping[str, frozenset[str]] = {
    "data": frozenset({"name", "validation_size", "test_size"}),
    "subset": frozenset({"name"}),
    "model": frozenset({"name", "family", "accepts", "class_weight"}),
}
"""Keys of a component group that belong to the framework and are not handed to its ``_target_``."""

OF_A_NETWORK = ("vocabulary", "n_classes", "pad_id")
"""Arguments that a network of the user's own gets from the data; the others are ``model.arguments``."""


@dataclass(frozen=True)
class CheckedConfig:
    """A configuration that has passed every check."""

    run: Any  # the typed view (``RunConfig``)
    # The same as resolved plain dicts with the values as they were validated, not as they were typed; they are stored,
    # logged and hashed.
    plain: dict[str, Any]
    seeded: frozenset[str] = frozenset()  # keys whose values follow ``seed``, such as ``model.random_state``

    def component(self, group: str) -> dict[str, Any]:
        """Return a group's ``_target_`` with its arguments, without the framework's own keys.

        A model's ``student`` is a choice of the same group and has such keys, too.
        """
        reserved = RESERVED[group]
        found = {k: v for k, v in self.plain[group].items() if k not in reserved}
        if isinstance(student := found.get("student"), Mapping):
            found["student"] = {k: v for k, v in student.items() if k not in reserved}
        return found


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain values by dotted keys; an empty mapping has none."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        found |= flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolve all interpolations and return plain dicts.

    Raises:
        ConfigError: An interpolation leads nowhere, or a mandatory value (``???``) is missing.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}: {reason}", fix=f"set {key}=<value>") from error
    except RecursionError as error:
        raise ConfigError("An interpolation of the configuration leads back to itself.") from error
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def check_config(cfg: DictConfig) -> CheckedConfig:
    """Check a composed configuration.

    Raises:
        ConfigError: With every schema violation found, or the first component that cannot be built.
    """
    from pydantic import ValidationError

    from agnews_exp.config.schema import RunConfig

    plain = to_plain(cfg)
    for key, value in flat(plain).items():
        refuse_password(key, value)
    if "eda" in plain:
        raise ConfigError("eda belongs to the command `agnews eda` and is no part of a run.", fix="agnews eda")
    plain["model"] = _completed(plain.get("model"))
    try:
        run = RunConfig.model_validate(plain)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "extra_forbidden":
                *parents, word = (str(part) for part in item["loc"])
                raise unknown_name(
                    f"key in {'.'.join(parents) or 'the config'}", word, _known(plain, parents)
                ) from error
        raise ConfigError(explain_validation(error), fix=_quoted_text(error)) from error
    seeded = _follow_seed(cfg, plain, run.seed)
    plain = _merged(plain, run.model_dump(by_alias=True))
    _check_kinds(run)
    for group, value in plain.items():
        if group not in ("callbacks", "logger"):  # those of Lightning: the runner looks at them
            for key, path in find_targets(value, group):
                resolve_target(path, key)
    plain = _merged(plain, _check_components(CheckedConfig(run, plain)))
    return CheckedConfig(run, plain, seeded)


def _completed(model: Any) -> Any:
    """Return a group ``model`` with the kind of model and of features that its ``_target_`` itself tells."""
    if not isinstance(model, Mapping) or "_target_" not in model or {"family", "accepts"} <= model.keys():
        return model
    target = resolve_target(model["_target_"], "model._target_")
    if hasattr(target, "max_length"):
        return {"family": "transformer", "accepts": ["text"], **model}
    accepts = ["sparse", "dense"]
    try:
        from sklearn.utils import get_tags

        if not get_tags(target()).input_tags.sparse:
            accepts = ["dense"]
    except (TypeError, AttributeError, ValueError):  # it needs arguments, or tells nothing: its fit will
        pass
    return {"family": "classical", "accepts": accepts, **model}


def _quoted_text(error: Any) -> str | None:
    """Return the override to type where a number, true or null stands in the place of a text."""
    for item in error.errors():
        if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
            value = str(item["input"]).lower() if isinstance(item["input"], bool) else item["input"]
            return shlex.quote(f'{".".join(map(str, item["loc"]))}="{value}"')
    return None


def _merged(one: Any, other: Any) -> Any:
    """Return nested plain values with those of another nest instead, in the order of the first."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        shared = {k: _merged(v, other[k]) if k in other else v for k, v in one.items()}
        return shared | {k: v for k, v in other.items() if k not in one}
    return other


def _follow_seed(cfg: DictConfig, plain: Mapping[str, Any], seed: int) -> frozenset[str]:
    """Return the keys whose values are others with another seed; a seed that is fixed on purpose is not among them."""
    other = copy.deepcopy(cfg)
    OmegaConf.set_readonly(other, None)
    other.seed = seed + 1
    return frozenset(_differing(plain, to_plain(other)))


def _differing(one: Any, other: Any, key: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in one.keys() & other.keys():
            yield from _differing(one[name], other[name], f"{key}.{name}" if key else str(name))
    elif isinstance(one, list) and isinstance(other, list):
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from _differing(*pair, f"{key}[{number}]")
    elif one != other:
        yield key


def _known(plain: Mapping[str, Any], parents: list[str]) -> list[str]:
    from agnews_exp.config.schema import RunConfig

    model: Any = RunConfig
    for part in parents:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _check_kinds(run: Any) -> None:
    """Refuse a split without the column that it goes by, and features of a kind that the model does not take."""
    split = run.split
    if (split.name in ("group", "time")) != (split.column is not None):
        raise ConfigError(
            f"split={split.name} {'needs' if split.column is None else 'takes no'} split.column.",
            fix="split.column=<name of a column>" if split.column is None else "split=group, or split=time",
        )
    kind, accepts, model = run.features.kind, run.model.accepts, run.model.name
    if kind in accepts:
        if kind == "text" and run.features.blocks:
            raise ConfigError(f"features.kind=text takes no blocks, but features={run.features.name} has some.")
        return
    if accepts == ["text"]:
        raise ConfigError(
            f"model={model} reads raw text and takes no {kind} features, but features={run.features.name} was chosen.",
            fix="features=text",
        )
    raise ConfigError(
        f"model={model} takes {' or '.join(accepts)} features, but features={run.features.name} gives {kind} ones.",
        fix="choose another features= (agnews list features) or another model= (agnews list model)",
    )


def _check_components(checked: CheckedConfig) -> dict[str, Any]:
    """Build the components that cost nothing, check the arguments of the others, and return all as validated."""
    found: dict[str, Any] = {}
    # The split gives a subset function these arguments; its other parameters are keys of the group.
    for group, supplied in (("data", ()), ("subset", ("labels", "fraction", "seed", "n_classes"))):
        component = checked.component(group)
        target = resolve_target(component.pop("_target_"), f"{group}._target_")
        found[group] = validated(component, check_arguments(target, component, group, supplied))
    try:
        model, found["model"] = build(checked.component("model"), "model")
    except ConfigError as error:
        _check_training_words(checked, error)
        raise
    student = checked.plain["model"].get("student")
    _check_class_weight(checked, model)
    if student is not None:
        _check_distillation(checked, student)
    if checked.run.model.family == "transformer":
        _check_transformer(checked.run, model if student is None else model.student)
    why = {"cascade": "combines finished runs", "llm": "is not trained here"}.get(checked.run.model.family)
    if why and checked.run.evaluation.folds:
        raise ConfigError(
            f"model={checked.run.model.name} {why}: there is nothing to fit in folds.",
            fix="evaluation=fast",
        )
    features = checked.plain["features"]
    blocks = {name: build(block, f"features.blocks.{name}")[1] for name, block in features["blocks"].items()}
    steps = {step: build(features[step], f"features.{step}")[1] for step in ("select", "reduce", "scale")}
    found["features"] = {"blocks": blocks, **steps}
    names = [str(name) for name in checked.plain["evaluation"]["analyses"]]
    for number, name in enumerate(names):
        check_file_name("evaluation.analyses", name, names[:number])
    analyses = {
        name: component if component is None else check_analysis(name, component)
        for name, component in checked.plain["evaluation"]["analyses"].items()
    }
    found["evaluation"] = {"analyses": analyses}
    unknown = set(features["block_weights"]) - set(features["blocks"])
    if unknown:
        raise unknown_name("block in features.block_weights", sorted(unknown)[0], list(features["blocks"]))
    return found


def _check_training_words(checked: CheckedConfig, error: ConfigError) -> None:
    """Say an estimator's mistake in other words where it comes of groups that say how a network is trained."""
    run, plain = checked.run.model, checked.plain["model"]
    words = {"focal_gamma", "label_smoothing", "optimizer", "schedule"} & plain.keys()
    if run.family == "classical" and (
        words or plain.get("loss") in ("cross_entropy", "focal", "supervised_contrastive")
    ):
        raise ConfigError(
            f"loss=, optimizer= and scheduler= say how a network is trained, and model={run.name} is none.",
            fix="leave them out; model.class_weight=balanced weighs the classes of most models",
        ) from error


def _check_class_weight(checked: CheckedConfig, model: Any) -> None:
    """Refuse class weights where a model has no use for them."""
    run, plain = checked.run.model, checked.plain["model"]
    student = plain.get("student")
    wanted = run.class_weight if student is None else run.class_weight or student.get("class_weight")
    if wanted is None:
        return
    refused = None
    if student is not None or run.family not in ("classical", "transformer"):
        refused = "it learns from another model's answers"
    elif run.family == "transformer":
        refused = None if wanted != "balanced_subsample" else "only forests draw rows for each of their trees"
    elif hasattr(model, "class_weight"):
        if isinstance(wanted, str):
            arguments = {**checked.component("model"), "class_weight": wanted}
            check_arguments(type(model), {k: v for k, v in arguments.items() if k != "_target_"}, "model")
    elif wanted != "balanced" and isinstance(wanted, str):
        refused = "only forests draw rows for each of their trees"
    elif "sample_weight" not in inspect.signature(model.fit).parameters:
        refused = f"{type(model).__name__} can weigh neither classes nor rows"
    if refused:
        raise ConfigError(
            f"model.class_weight={wanted} does not fit model={run.name}: {refused}.", fix="model.class_weight=null"
        )


def _check_distillation(checked: CheckedConfig, student: Mapping[str, Any]) -> None:
    """Refuse a student of another family, and folds, whose held-out rows a teacher has learned from."""
    model = checked.run.model
    if student.get("family") != model.family:
        other = "distilled_network" if student.get("family") == "transformer" else "distilled_linear"
        raise ConfigError(
            f"model.student={student.get('name')} is of the family {student.get('family')}, but model={model.name} "
            f"trains {model.family} ones.",
            fix=f"model={other} model@model.student={student.get('name')}",
        )
    if checked.run.evaluation.folds:
        raise ConfigError(
            f"model={model.name} cannot be cross-validated: its teacher has learned from the rows that folds hold out.",
            fix="evaluation=fast",
        )


def check_analysis(name: str, component: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of one analysis before any work, and return it as it was validated.

    Raises:
        ConfigError: The target or an argument is not allowed.
    """
    key = f"evaluation.analyses.{name}"
    arguments = {k: v for k, v in component.items() if k != "_target_"}
    target = resolve_target(component["_target_"], f"{key}._target_")
    return {**component, **validated(arguments, check_arguments(target, arguments, key, ("context",)))}


def _check_transformer(run: Any, model: Any) -> None:
    """Refuse what a transformer's training cannot do, and what would silently have no effect."""
    if not hasattr(model, "max_length"):
        raise ConfigError(
            f"model._target_: {type(model).__name__} is no transformer, but model.family=transformer.",
            fix="model.family=classical",
        )
    if "." in model.loss:
        resolve_target(model.loss, "model.loss")
    if (network := getattr(model, "network", None)) is not None:
        target = resolve_target(network, "model.network")
        check_arguments(target, model.arguments or {}, "model.arguments", OF_A_NETWORK)
    if run.features.clean != "none":
        raise ConfigError(
            f"features.clean={run.features.clean} has no effect on model={run.model.name}, which reads the raw text.",
            fix="features.clean=none",
        )
    several = run.trainer.devices not in ("auto", 1) and not (
        isinstance(run.trainer.devices, list) and len(run.trainer.devices) == 1
    )
    if getattr(model, "unfreeze_at_epoch", None) is not None and (several or run.trainer.strategy == "ddp"):
        raise ConfigError(
            f"model.unfreeze_at_epoch={model.unfreeze_at_epoch} needs one device: parameters that join later are not "
            "averaged over processes.",
            fix="trainer.devices=1 trainer.strategy=auto",
        )

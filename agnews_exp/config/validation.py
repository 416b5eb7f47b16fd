"""Checks of a composed configuration before any work: types, ranges, targets, and what fits together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.config.targets import (
    check_arguments,
    explain_validation,
    find_targets,
    resolve_target,
    safe_instantiate,
)
from agnews_exp.core.errors import ConfigError, unknown_name

RESERVED: Mapping[str, frozenset[str]] = {
    "data": frozenset({"name", "validation_size", "test_size"}),
    "subset": frozenset({"name"}),
    "model": frozenset({"name", "family", "accepts"}),
}
"""Keys of a component group that belong to the framework and are not handed to its ``_target_``."""


@dataclass(frozen=True)
class CheckedConfig:
    """A configuration that has passed every check.

    Attributes:
        run: The typed view (``RunConfig``).
        plain: The same as resolved plain dicts, which are stored, logged and hashed.
    """

    run: Any
    plain: dict[str, Any]

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
    if "eda" in plain:
        raise ConfigError("eda belongs to the command `agnews eda` and is no part of a run.", fix="agnews eda")
    try:
        run = RunConfig.model_validate(plain)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "extra_forbidden":
                *parents, word = (str(part) for part in item["loc"])
                raise unknown_name(
                    f"key in {'.'.join(parents) or 'the config'}", word, _known(plain, parents)
                ) from error
        raise ConfigError(explain_validation(error)) from error
    checked = CheckedConfig(run, plain)
    _check_kinds(run)
    for group, value in plain.items():
        for key, path in find_targets(value, group):
            resolve_target(path, key)
    _check_components(checked)
    return checked


def _known(plain: Mapping[str, Any], parents: list[str]) -> list[str]:
    from agnews_exp.config.schema import RunConfig

    model: Any = RunConfig
    for part in parents:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _check_kinds(run: Any) -> None:
    """Refuse features of a kind that the model does not take."""
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


def _check_components(checked: CheckedConfig) -> None:
    """Build the components that cost nothing and check the arguments of the others."""
    # The split gives a subset function these arguments; its other parameters are keys of the group.
    for group, supplied in (("data", ()), ("subset", ("labels", "fraction", "seed", "n_classes"))):
        component = checked.component(group)
        target = resolve_target(component.pop("_target_"), f"{group}._target_")
        check_arguments(target, component, group, supplied)
    model = safe_instantiate(checked.component("model"), "model")
    student = checked.plain["model"].get("student")
    if student is not None:
        _check_distillation(checked, student)
    if checked.run.model.family == "transformer":
        _check_transformer(checked.run, model if student is None else model.student)
    if checked.run.model.family == "cascade" and checked.run.evaluation.folds:
        raise ConfigError(
            f"model={checked.run.model.name} combines finished runs: there is nothing to fit in folds.",
            fix="evaluation=fast",
        )
    features = checked.plain["features"]
    for name, block in features["blocks"].items():
        safe_instantiate(block, f"features.blocks.{name}")
    for step in ("select", "reduce", "scale"):
        safe_instantiate(features[step], f"features.{step}")
    for name, component in checked.plain["evaluation"].get("analyses", {}).items():
        if component is not None:
            check_analysis(name, component)
    unknown = set(features["block_weights"]) - set(features["blocks"])
    if unknown:
        raise unknown_name("block in features.block_weights", sorted(unknown)[0], list(features["blocks"]))


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


def check_analysis(name: str, component: Mapping[str, Any]) -> None:
    """Check the arguments of one analysis before any work.

    Args:
        name: Its key in ``evaluation.analyses``.
        component: ``_target_`` and arguments.

    Raises:
        ConfigError: The target or an argument is not allowed.
    """
    key = f"evaluation.analyses.{name}"
    arguments = {k: v for k, v in component.items() if k != "_target_"}
    check_arguments(resolve_target(component["_target_"], f"{key}._target_"), arguments, key, ("context",))


def _check_transformer(run: Any, model: Any) -> None:
    """Refuse what a transformer's training cannot do, and what would silently have no effect."""
    if not hasattr(model, "max_length"):
        raise ConfigError(
            f"model._target_: {type(model).__name__} is no transformer, but model.family=transformer.",
            fix="model.family=classical",
        )
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

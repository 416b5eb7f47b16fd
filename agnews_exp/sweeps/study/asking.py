"""How the words of the command line choose a study's profile and change it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from agnews_exp.config.compose import header_of
from agnews_exp.config.errors import ConfigError, unknown_name
from agnews_exp.config.locations import config_folder
from agnews_exp.sweeps.study.settings import AskedStudy, StudySettings

GROUP = "study"
_SHARED = ("data", "data_fraction", "subset", "split_seed", "trainer", "tracking", "tags", "hydra.launcher")
"""What a study hands on to its runs; everything else is a stage's own choice."""

_NOT_IDENTITY = ("study.leave_out", "study.jobs", "study.name", "tracking", "tags", "hydra.launcher")
"""Words that say how a study is worked off, not what it is."""


def profiles() -> dict[str, str]:
    """Return the profiles with what their YAML's first line says."""
    found = sorted(path.stem for path in (config_folder() / GROUP).glob("*.yaml"))
    return {name: header_of(GROUP, name) for name in found}


def ask(profile: str, given: Sequence[str]) -> AskedStudy:
    """Read a profile and apply the words of the command line.

    Args:
        profile: Name of a YAML in conf/study/.
        given: Overrides: ``study.<key>=...`` change the study, others go to its runs.

    Raises:
        ConfigError: An unknown profile, key or stage, a bad value, or an override that stages choose themselves.
    """
    known = profiles()
    if profile not in known:
        raise unknown_name("study", profile, list(known))
    own = [word for word in given if _key(word).startswith(f"{GROUP}.")]
    shared = [word for word in given if word not in own]
    for word in shared:
        _check_shared(word)
    settings = _checked(_with_words(_composed(profile), own))
    _check_names(settings)
    words = _merged(settings.words, shared)
    fraction = _fraction([word for word in words if _key(word) == "data_fraction"])
    return AskedStudy(
        profile,
        settings.name or _name(profile, given),
        settings,
        tuple(word for word in words if _key(word) != "data_fraction"),
        fraction,
        tuple(given),
    )


def _composed(profile: str) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(config_folder())):
        config = compose(config_name=f"{GROUP}/{profile}")[GROUP]
    assert isinstance(config, DictConfig)
    return config


def _with_words(config: DictConfig, words: Sequence[str]) -> DictConfig:
    OmegaConf.set_struct(config, False)
    root = OmegaConf.create({GROUP: config})
    for word in words:
        if word.startswith(("+", "~")) or "=" not in word:
            raise ConfigError(f"Cannot read '{word}'.", fix="write study.key=value")
        key, _, _ = word.partition("=")
        *parents, last = key.split(".")[1:]
        node: Any = root[GROUP]
        for part in parents:
            node = _child(node, part, key)
        # Options of a stage's step are a list, which OmegaConf replaces as a whole.
        _child(node, last, key)
        try:
            value = OmegaConf.from_dotlist([f"value={word.partition('=')[2]}"])["value"]
        except Exception as error:
            raise ConfigError(f"Cannot read the value of '{word}'.", fix="quote it for the shell") from error
        OmegaConf.update(root, key, value, merge=False)
    return root


def _child(node: Any, part: str, key: str) -> Any:
    if not isinstance(node, DictConfig) or part not in node:
        allowed = [str(k) for k in node] if isinstance(node, DictConfig) else []
        raise unknown_name(f"key in '{key}'", part, allowed)
    return node._get_node(part)


def _checked(root: DictConfig) -> StudySettings:
    from agnews_exp.config.targets import explain_validation

    try:
        plain = OmegaConf.to_container(root, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"conf/study: {str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    try:
        return StudySettings.model_validate(plain[GROUP])
    except ValidationError as error:
        raise ConfigError(explain_validation(error, GROUP)) from error


def _check_names(settings: StudySettings) -> None:
    for name in settings.leave_out:
        if name not in settings.stages:
            raise unknown_name("stage in study.leave_out", name, list(settings.stages))
    if settings.transformer not in ("auto", *settings.transformers):
        raise unknown_name("study.transformer", settings.transformer, ["auto", *settings.transformers])


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def _is_under(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith((f"{place}.", f"{place}/")) for place in places)


def _check_shared(word: str) -> None:
    key = _key(word)
    if "=" not in word or word.startswith("-"):
        raise ConfigError(f"'{word}' is no override.", fix="write key=value: data=sample data_fraction=0.1")
    if _is_under(key, ("paths",)):
        raise ConfigError(f"'{word}': the commands of a study share one project root.", fix="set AGNEWS_ROOT=<folder>")
    if not _is_under(key, _SHARED):
        raise ConfigError(
            f"'{word}': the stages of a study choose this themselves.\n  allowed: {', '.join(_SHARED)}, study.<key>",
            fix="see `agnews study --help` and conf/study/",
        )


def _merged(words: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return both; of two with the same key the later one. Another choice of a group drops the keys below it."""
    keys = {_key(word) for word in later}
    return [word for word in words if not _is_under(_key(word), tuple(keys))] + list(later)


def _fraction(words: Sequence[str]) -> float:
    if not words:
        return 1.0
    try:
        value = float(words[-1].partition("=")[2])
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ConfigError(f"{words[-1]}: one number above 0 and at most 1 is needed; a stage takes its shares of it.")
    return value


def _name(profile: str, given: Sequence[str]) -> str:
    """Return the profile's name, with six digits where the command asks for another study than the profile's."""
    science = sorted(word for word in given if not _is_under(_key(word), _NOT_IDENTITY))
    if not science:
        return profile
    return f"{profile}-{hashlib.sha256(chr(10).join(science).encode()).hexdigest()[:6]}"

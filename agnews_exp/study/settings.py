"""Settings of a study: the keys of `conf/study/<profile>.yaml`, and those that a command line may change."""

from __future__ import annotations

import hashlib
import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import psutil
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agnews_exp.config.compose import explain_composition
from agnews_exp.config.schema import Fraction
from agnews_exp.core.errors import ConfigError, MissingDependencyError, unknown_name
from agnews_exp.core.paths import config_folder
from agnews_exp.core.processes import cpu_count, visible_gpus
from agnews_exp.sweeps.state import override_key

GROUP = "study"
Seconds = Annotated[float, Field(ge=0)]
Status = Literal["finished", "failed", "left_out", "pending", "running"]

_SHARED = (
    "data",
    "data_fraction",
    "split",
    "subset",
    "split_seed",
    "trainer",
    "reference",
    "tracking",
    "tags",
    "hydra.launcher",
)
"""Keys that a study hands on to its runs; every other key is a stage's own choice."""
_NOT_IDENTITY = ("study.leave_out", "study.jobs", "study.name", "reference", "tracking", "tags", "hydra.launcher")
"""Keys that change how a study is carried out, and nothing in its results."""
_GIB_A_JOB = 2.0
"""Memory of one classical job on a corpus of 100,000 short texts, with room to spare."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepSettings(_Settings):
    """One command of a stage, or one for each of several runs."""

    words: str  # the command's words after ``agnews``, with placeholders in angle brackets
    each: list[str] = []  # placeholders that ``<run>`` stands for in turn; empty: one command
    folder: str | None = None  # the folder that it leaves behind, relative to outputs/; null: runs and sweeps alone
    package: str | None = None  # a Python package without which the command is left out
    extra: str | None = None  # the extra that brings the package


class StageSettings(_Settings):
    """One stage: a title and its commands."""

    title: str  # the stage's name for people
    # First guess of its time on two cores, apart from the rows; corrected by the stages that have ended.
    seconds: Seconds = 0.0
    per_10k: Seconds = 0.0  # further seconds for every 10,000 training rows
    competes: bool = False  # whether its classical runs on all rows may be called the best one
    sums_up: bool = False  # whether it is done again whenever another stage has done something (the report)
    steps: list[StepSettings] = Field(min_length=1)  # its commands, in order


class TransformerSettings(_Settings):
    """One candidate for the study's transformer."""

    words: str  # its overrides, such as ``model=minilm``
    fraction: Fraction = 1.0  # share of the study's training rows that it is trained on
    gpu: bool = False  # whether it needs a GPU
    hub: bool = False  # whether its weights come from the hub
    package: str | None = None  # a Python package without which it cannot be had
    extra: str | None = None  # the extra that brings the package


class StudySettings(_Settings):
    """A study: its name, what its runs share, and its stages."""

    # Of its folder, and the tag of its runs; null: the profile's, with six digits of the words that change it.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,59}$")] | None = None
    words: list[str] = []  # overrides of every run, such as ``data=ag_news``
    leave_out: list[str] = []  # stages not to do
    # Jobs of a sweep at once; null: one for every core, transformers one at a time (or one for every GPU).
    jobs: Annotated[int, Field(ge=1)] | None = None
    transformer: str = "auto"  # one of ``transformers``, or auto: the first that this machine can do
    transformers: dict[str, TransformerSettings] = Field(min_length=1)  # candidates, the best first
    options: dict[str, Any] = {}  # values that the stages' commands refer to
    stages: dict[str, StageSettings] = Field(min_length=1)  # the stages, in order


@dataclass(frozen=True)
class AskedStudy:
    """A study as a command line asks for it."""

    profile: str  # the YAML's name
    name: str  # the study's name
    settings: StudySettings  # the YAML with the ``study.`` words applied
    words: tuple[str, ...]  # overrides of every run, but for ``data_fraction``
    fraction: float  # ``data_fraction`` of the whole study, of which stages take their shares
    given: tuple[str, ...]  # the words of the command line

    @property
    def command(self) -> str:
        """The command that repeats the study."""
        return shlex.join(["agnews", "study", self.profile, *self.given])


def profiles() -> list[str]:
    """Return the names of all profiles."""
    return sorted(path.stem for path in (config_folder() / GROUP).glob("*.yaml"))


def ask(profile: str, given: Sequence[str]) -> AskedStudy:
    """Read a YAML of conf/study/; ``study.<key>=...`` change the study, other words go to its runs.

    Raises:
        ConfigError: An unknown profile, key or stage, a bad value, or an override that stages choose themselves.
    """
    if profile not in profiles():
        raise unknown_name("study", profile, profiles())
    own = [word for word in given if override_key(word).startswith(f"{GROUP}.")]
    shared = [word for word in given if word not in own]
    for word in shared:
        _check_shared(word)
    settings = _settings(profile, own)
    keys = tuple(override_key(word) for word in shared)
    words = [word for word in settings.words if not _is_under(override_key(word), keys)] + shared
    fractions = [word for word in words if override_key(word) == "data_fraction"]
    science = sorted(word for word in given if not _is_under(override_key(word), _NOT_IDENTITY))
    digits = f"-{hashlib.sha256(chr(10).join(science).encode()).hexdigest()[:6]}" if science else ""
    name = settings.name or f"{profile}{digits}"
    rest = tuple(word for word in words if word not in fractions)
    return AskedStudy(profile, name, settings, rest, _fraction(fractions), tuple(given))


def _settings(profile: str, words: Sequence[str]) -> StudySettings:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from agnews_exp.config.targets import explain_validation

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(config_folder())):
            config = compose(config_name=f"{GROUP}/{profile}", overrides=list(words))
        settings = StudySettings.model_validate(OmegaConf.to_container(config, resolve=True)[GROUP])  # type: ignore[index, call-overload]
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, profile, words) from error
    except ValidationError as error:
        raise ConfigError(explain_validation(error, GROUP)) from error
    for name in settings.leave_out:
        if name not in settings.stages:
            raise unknown_name("stage in study.leave_out", name, list(settings.stages))
    if settings.transformer not in ("auto", *settings.transformers):
        raise unknown_name("study.transformer", settings.transformer, ["auto", *settings.transformers])
    return settings


def _explained(error: Exception, profile: str, words: Sequence[str]) -> Exception:
    """Return the error of a ``study.`` key that does not exist with the nearest one that does."""
    node: Any = _settings(profile, ()).model_dump() if words else {}
    for word in words:
        here = node
        for part in override_key(word).split(".")[1:]:
            if not isinstance(here, dict) or part not in here:
                allowed = [str(key) for key in here] if isinstance(here, dict) else []
                return unknown_name(f"key in '{override_key(word)}'", part, allowed)
            here = here[part]
    return explain_composition(error, words)


def _is_under(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith((f"{place}.", f"{place}/")) for place in places)


def _check_shared(word: str) -> None:
    key = override_key(word)
    if "=" not in word or word.startswith("-"):
        raise ConfigError(f"'{word}' is no override.", fix="write key=value: data=sample data_fraction=0.1")
    if _is_under(key, ("paths",)):
        raise ConfigError(f"'{word}': the commands of a study share one project root.", fix="set AGNEWS_ROOT=<folder>")
    if not _is_under(key, _SHARED):
        raise ConfigError(
            f"'{word}': the stages of a study choose this themselves.\n  allowed: {', '.join(_SHARED)}, study.<key>",
            fix="see `agnews study --help` and conf/study/",
        )


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


@dataclass(frozen=True)
class Machine:
    """Cores, GPUs and memory (GiB) that a study may use."""

    cores: int = field(default_factory=cpu_count)
    gpus: tuple[str, ...] = field(default_factory=lambda: tuple(visible_gpus()))
    memory: float = field(default_factory=lambda: psutil.virtual_memory().total / 2**30)


def launcher_words(machine: Machine, jobs: int | None, *, transformer: bool) -> list[str]:
    """Return the launcher's overrides of a sweep; None as ``jobs`` leaves their number to this function.

    Nearly all classical models compute in one thread: one job for every core. A transformer takes all cores: one job at
    a time, or one for every GPU.
    """
    if jobs is None and transformer:
        words = [f"hydra.launcher.n_jobs={max(1, len(machine.gpus))}"]
        return [*words, "hydra.launcher.gpus_per_job=1"] if len(machine.gpus) > 1 else words
    chosen = jobs or max(1, min(machine.cores, int(machine.memory / _GIB_A_JOB)))
    return [f"hydra.launcher.n_jobs={chosen}"]


def missing_package(package: str | None, extra: str | None) -> str | None:
    """Return why a package's work is left out, or None when the package is there (or none is needed)."""
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed" + (f" (extra {extra})" if extra else "")


def choose_transformer(settings: StudySettings, machine: Machine) -> tuple[str | None, dict[str, str]]:
    """Return the first candidate that can be had, or None, and why those before it cannot."""
    names = [*settings.transformers] if settings.transformer == "auto" else [settings.transformer]
    refused: dict[str, str] = {}
    for name in names:
        reason = _refusal(settings.transformers[name], machine)
        if reason is None:
            return name, refused
        refused[name] = reason
    return None, refused


def _refusal(candidate: TransformerSettings, machine: Machine) -> str | None:
    if candidate.gpu and not machine.gpus:
        return "no GPU"
    if reason := missing_package(candidate.package, candidate.extra):
        return reason
    return _missing_weights(candidate.words) if candidate.hub else None


def _missing_weights(words: str) -> str | None:
    """Return why a model's weights can be had neither from the local cache nor from the hub, or None."""
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.targets import safe_instantiate
    from agnews_exp.config.validation import check_config
    from agnews_exp.models.recipes import locate

    try:
        locate(safe_instantiate(check_config(compose_config(words.split())).component("model"), "model"))
    except (ConfigError, MissingDependencyError) as error:
        return error.message.splitlines()[0]
    return None

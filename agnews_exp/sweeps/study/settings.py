"""What `conf/study/<profile>.yaml` may say."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agnews_exp.config.schema import Fraction

_STUDY_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,59}$"
Seconds = Annotated[float, Field(ge=0)]
Status = Literal["finished", "failed", "left_out", "pending", "running"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepSettings(_Settings):
    """One command, or one for each of several runs.

    Attributes:
        words: The command's words after ``agnews``, with placeholders in braces.
        each: Placeholders that ``{run}`` stands for in turn; empty: one command.
        folder: What it leaves behind, relative to outputs/; null: runs and sweeps alone.
        package: A Python package without which it is left out.
        extra: The extra that brings the package.
    """

    words: str
    each: list[str] = []
    folder: str | None = None
    package: str | None = None
    extra: str | None = None


class StageSettings(_Settings):
    """One stage.

    Attributes:
        title: What people read.
        fixed: Measured seconds that do not depend on the rows.
        per_10k: Measured seconds for 10,000 training rows, on two cores.
        trainings: How many trainings of the transformer on its share of the rows it amounts to.
        competes: Whether its classical runs on all rows may be called the best one.
        sums_up: Whether it is done again whenever another stage has done something (the report).
        steps: Its commands.
    """

    title: str
    fixed: Seconds = 0.0
    per_10k: Seconds = 0.0
    trainings: Seconds = 0.0
    competes: bool = False
    sums_up: bool = False
    steps: list[StepSettings] = Field(min_length=1)


class TransformerSettings(_Settings):
    """One candidate for the study's transformer.

    Attributes:
        words: Its overrides, such as ``model=minilm``.
        fraction: Share of the study's training rows that it is trained on.
        gpu: Whether it needs a GPU.
        hub: Whether its weights come from the hub.
        package: A Python package without which it cannot be had.
        extra: The extra that brings the package.
        fixed: Measured seconds of a training that do not depend on the rows.
        per_10k: Measured seconds for 10,000 training rows of one epoch, on two cores or one GPU.
    """

    words: str
    fraction: Fraction = 1.0
    gpu: bool = False
    hub: bool = False
    package: str | None = None
    extra: str | None = None
    fixed: Seconds = 0.0
    per_10k: Seconds = 0.0


class StudySettings(_Settings):
    """A study.

    Attributes:
        name: Of its folder, and the tag of its runs; null: the profile's, with six digits of the words that change it.
        words: Overrides of every run, such as ``data=ag_news``.
        leave_out: Stages not to do.
        jobs: Jobs of a sweep at once; null: one for every core, transformers one at a time (or one for every GPU).
        transformer: One of ``transformers``, or auto: the first that this machine can do.
        transformers: Candidates, the best first.
        options: Values that the stages' commands refer to.
        stages: The stages, in order.
    """

    name: Annotated[str, Field(pattern=_STUDY_NAME)] | None = None
    words: list[str] = []
    leave_out: list[str] = []
    jobs: Annotated[int, Field(ge=1)] | None = None
    transformer: str = "auto"
    transformers: dict[str, TransformerSettings] = Field(min_length=1)
    options: dict[str, Any] = {}
    stages: dict[str, StageSettings] = Field(min_length=1)

    @field_validator("words", mode="before")
    @classmethod
    def _as_words(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class AskedStudy:
    """A study as it was asked for.

    Attributes:
        profile: The YAML's name.
        name: The study's name.
        settings: What the YAML and the ``study.`` words say.
        words: Overrides of every run, but for ``data_fraction``.
        fraction: ``data_fraction`` of the whole study, of which stages take their shares.
        given: The words of the command line.
    """

    profile: str
    name: str
    settings: StudySettings
    words: tuple[str, ...]
    fraction: float
    given: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that repeats it."""
        return shlex.join(["agnews", "study", self.profile, *self.given])


def transformer_choice(settings: StudySettings) -> Mapping[str, TransformerSettings]:
    """Return the candidates for the transformer that the settings leave."""
    if settings.transformer == "auto":
        return settings.transformers
    return {settings.transformer: settings.transformers[settings.transformer]}

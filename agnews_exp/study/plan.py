"""From a study's settings to commands: placeholders filled, the study's own words added, times estimated."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agnews_exp import __version__
from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.core.paths import config_folder
from agnews_exp.study.evidence import STUDIES, Evidence, FoundRun, NotYet
from agnews_exp.study.settings import (
    AskedStudy,
    Machine,
    StageSettings,
    StepSettings,
    TransformerSettings,
    launcher_words,
    missing_package,
)
from agnews_exp.sweeps.state import override_key

_PLACEHOLDER = re.compile(r"<([a-z_]+)(?::([^<>]*))?>")
_DATA_KEYS = ("data", "data_fraction", "subset", "split_seed", "tracking")
"""Overrides that commands which only read the data take."""


@dataclass(frozen=True)
class Command:
    """One command of a stage, as far as it is known.

    Attributes:
        words: Its words after ``agnews``; placeholders stand where a value is not known yet.
        sweep: The sweep that it works on, where it is one.
        needs_sweep: The sweep that must have finished before.
        folder: What it leaves behind beside runs and sweeps, relative to outputs/.
        missing: Why it cannot be run (now); None when it can.
        left_out: Whether ``missing`` is for good in this study.
    """

    words: tuple[str, ...]
    sweep: str | None = None
    needs_sweep: str | None = None
    folder: str | None = None
    missing: str | None = None
    left_out: bool = False

    @property
    def text(self) -> str:
        """The command for a shell."""
        return "agnews " + " ".join(w if _PLACEHOLDER.search(w) else shlex.quote(w) for w in self.words)

    @property
    def is_single_run(self) -> bool:
        """Whether it trains one run, in a folder that it chooses itself."""
        return self.sweep is None and (self.words[0] == "run" or "--run" in self.words)


class Planner:
    """Makes the commands of a study's stages.

    Args:
        asked: The study.
        evidence: What earlier stages have found.
        machine: This machine.
        transformer: Name of the chosen transformer, or None.
    """

    def __init__(self, asked: AskedStudy, evidence: Evidence, machine: Machine, transformer: str | None) -> None:
        self._asked, self._evidence, self._machine = asked, evidence, machine
        self._settings = asked.settings
        self.transformer = transformer
        self._values: dict[str, Callable[[str], list[str]]] = {
            "study": lambda _: [asked.name],
            "data": lambda _: self._data_words(),
            "part": lambda shares: [self._fractions(shares, asked.fraction)],
            "share": lambda shares: [self._fractions(shares, asked.fraction * self._chosen().fraction)],
            "transformer": lambda _: self._transformer_words(),
            "best_classical": lambda _: [evidence.best_classical().word],
            "transformer_run": lambda _: [self._transformer_run().word],
            "top": lambda number: [run.word for run in evidence.top_classical(int(number))],
            "top_cv": lambda number: [run.word for run in evidence.top_cross_validated(int(number))],
            "option": self._option,
            "runs": lambda stage: [run.word for run in evidence.runs(stage)],
        }

    def commands(self, stage: str) -> list[Command]:
        """Return a stage's commands, in order."""
        made: list[Command] = []
        for step in self._settings.stages[stage].steps:
            runs: list[str | None] = [*step.each] or [None]
            for run in runs:
                made.append(self._command(stage, step, run, len(made), made))
        return made

    def _command(
        self, stage: str, step: StepSettings, run: str | None, number: int, before: Sequence[Command]
    ) -> Command:
        sweep = next((c.sweep for c in reversed(before) if c.sweep is not None), None)
        local: dict[str, Callable[[str], list[str]]] = {
            "folder": lambda _: [str(self._path(stage))],
            "sweep": lambda _: [self._known(sweep, stage)],
        }
        if run is not None:
            local["run"] = lambda _: self._value(run, "", {})
        words: list[str] = []
        lacks: list[NotYet] = []
        for word in shlex.split(step.words):
            try:
                words += self._filled(word, local)
            except NotYet as lack:
                words.append(word if run is None else word.replace("<run>", f"<{run}>"))
                lacks.append(lack)
        if lacks:
            first = max(lacks, key=lambda found: found.final)
            return Command(tuple(words), missing=first.reason, left_out=first.final)
        folder = None if step.folder is None else "".join(self._filled(step.folder, local))
        if reason := missing_package(step.package, step.extra) or _missing_experiment(words):
            return Command(tuple(words), missing=reason, left_out=True)
        name = None
        if words[0] == "run":
            words, name = self._completed(words, stage, number, transformer="<transformer>" in step.words)
        return Command(tuple(words), name, sweep if "<sweep>" in step.words else None, folder)

    def _path(self, stage: str) -> object:
        return self._evidence.output_dir / STUDIES / self._asked.name / stage

    def _known(self, sweep: str | None, stage: str) -> str:
        if sweep is None:
            raise ConfigError(f"study.stages.{stage}: <sweep> stands before any sweep of this stage.")
        return sweep

    def _filled(self, word: str, local: Mapping[str, Callable[[str], list[str]]]) -> Iterator[str]:
        """Yield a word with its placeholders filled; one that is a placeholder alone may become several words."""
        whole = _PLACEHOLDER.fullmatch(word)
        if whole is not None:
            yield from self._value(whole[1], whole[2] or "", local)
            return
        yield _PLACEHOLDER.sub(lambda found: " ".join(self._value(found[1], found[2] or "", local)), word)

    def _value(self, name: str, argument: str, local: Mapping[str, Callable[[str], list[str]]]) -> list[str]:
        known = self._values | dict(local)
        if name not in known:
            raise unknown_name("placeholder in conf/study", name, list(known))
        return known[name](argument)

    def _option(self, name: str) -> list[str]:
        value = self._settings.options.get(name)
        if value is None:
            raise NotYet(f"study.options.{name} is not set", final=True)
        return shlex.split(str(value))

    def _chosen(self) -> TransformerSettings:
        if self.transformer is None:
            raise NotYet("no transformer can be had here", final=True)
        return self._settings.transformers[self.transformer]

    def _transformer_words(self) -> list[str]:
        chosen = self._chosen()
        return [
            *shlex.split(chosen.words),
            f"data_fraction={self._fractions('1', self._asked.fraction * chosen.fraction)}",
        ]

    def _transformer_run(self) -> FoundRun:
        self._chosen()
        return self._evidence.runs("transformer")[0]

    @staticmethod
    def _fractions(shares: str, whole: float) -> str:
        try:
            return ",".join(f"{float(share) * whole:.6g}" for share in shares.split(","))
        except ValueError:
            raise ConfigError(f"conf/study: '{shares}' is no list of shares.", fix="write <part:0.1,1.0>") from None

    def _data_words(self) -> list[str]:
        fraction = [f"data_fraction={self._asked.fraction:g}"] if self._asked.fraction < 1 else []
        data = [w for w in self._asked.words if re.split(r"[./]", override_key(w))[0] in _DATA_KEYS]
        return [*data, *fraction]

    def _completed(
        self, words: Sequence[str], stage: str, number: int, *, transformer: bool
    ) -> tuple[list[str], str | None]:
        """Add to a run's or a sweep's own overrides those of the study, which win, and the sweep's name."""
        sweeping = "-m" in words
        own = [w for w in words[1:] if w != "-m"]
        fraction = [f"data_fraction={self._asked.fraction:g}"] if self._asked.fraction < 1 else []
        jobs = launcher_words(self._machine, self._settings.jobs, transformer=transformer) if sweeping else []
        given = [w for w in self._asked.words if sweeping or not override_key(w).startswith("hydra.launcher")]
        merged = {override_key(w): w for w in [*fraction, f"tags.study={self._asked.name}", *jobs, *own, *given]}
        kept = list(merged.values())
        if not sweeping:
            return ["run", *kept], None
        science = [self._evidence.timeless(w) for w in kept if not w.startswith("hydra.launcher.")]
        digest = hashlib.sha256("\n".join([__version__, *science]).encode()).hexdigest()[:6]
        name = f"{self._asked.name}-{stage}-{number + 1}-{digest}"
        return ["run", "-m", *kept, f"sweep.name={name}"], name

    def estimate(self, stage: str, rows: int) -> float:
        """Return the seconds that a stage should take, from the measured ones in its settings.

        Args:
            stage: Its name.
            rows: Training rows of the study.
        """
        settings = self._settings.stages[stage]
        seconds = settings.fixed + settings.per_10k * rows / 1e4 * self._machine.slowness
        return seconds + self._trainings(settings, rows)

    def _trainings(self, settings: StageSettings, rows: int) -> float:
        if self.transformer is None or settings.trainings == 0:
            return 0.0
        chosen = self._chosen()
        slowness = 1.0 if chosen.gpu else self._machine.slowness
        return settings.trainings * (chosen.fixed + chosen.per_10k * rows * chosen.fraction / 1e4 * slowness)


def _missing_experiment(words: Sequence[str]) -> str | None:
    for word in words:
        key, _, choice = word.partition("=")
        if key == "experiment" and not (config_folder() / "experiment" / f"{choice}.yaml").is_file():
            return f"there is no experiment={choice}"
    return None

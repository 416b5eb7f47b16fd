"""The commands of a study: placeholders filled from what earlier stages found, by validation scores only."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp import __version__
from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.core.paths import config_folder
from agnews_exp.study.settings import AskedStudy, Machine, StepSettings, launcher_words, missing_package
from agnews_exp.study.state import STUDIES, StudyFile
from agnews_exp.sweeps.state import override_key
from agnews_exp.tracking import record

CHOICE = "val/macro_f1"
"""The metric that runs are chosen by: every run has it, and it says nothing of the test set."""

_PLACEHOLDER = re.compile(r"<([a-z_]+)(?::([^<>]*))?>")
_RUN_FOLDER = re.compile(r"\bruns/[\w.-]+")
_DATA_KEYS = ("data", "data_fraction", "split", "subset", "split_seed", "tracking")
"""Overrides that commands which only read the data take."""


class NotYet(Exception):
    """Something that a command needs does not exist yet, or (``final``) will not in this study at all."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


@dataclass(frozen=True)
class FoundRun:
    """A finished run of an earlier stage."""

    path: Path  # its folder
    word: str  # the same relative to outputs/, as commands take it
    result: Mapping[str, Any]  # its result.json


@dataclass(frozen=True)
class Command:
    """One command of a stage, as far as it is known."""

    words: tuple[str, ...]  # its words after ``agnews``; placeholders stand where a value is not known yet
    sweep: str | None = None  # the sweep that it works on, where it is one
    needs_sweep: str | None = None  # the sweep that must have finished before
    folder: str | None = None  # the folder that it leaves behind beside runs and sweeps, relative to outputs/
    missing: str | None = None  # why it cannot be run (now); None when it can
    left_out: bool = False  # whether ``missing`` is for good in this study

    @property
    def text(self) -> str:
        """The command as a line for a shell."""
        return "agnews " + " ".join(w if _PLACEHOLDER.search(w) else shlex.quote(w) for w in self.words)

    @property
    def is_single_run(self) -> bool:
        """Whether it trains one run, in a folder that it chooses itself."""
        return self.sweep is None and (self.words[0] == "run" or "--run" in self.words)


class Planner:
    """Makes the commands of a study's stages from the results of its stages so far."""

    def __init__(self, asked: AskedStudy, state: StudyFile, machine: Machine, transformer: str | None) -> None:
        self._asked, self._state, self._machine = asked, state, machine
        self._settings, self._transformer = asked.settings, transformer
        self._values: dict[str, Callable[[str], list[str]]] = {
            "study": lambda _: [asked.name],
            "data": lambda _: self._data_words(),
            "part": lambda shares: [_fractions(shares, asked.fraction)],
            "share": lambda shares: [_fractions(shares, self._transformer_fraction())],
            "transformer": lambda _: self._transformer_words(),
            "best_classical": lambda _: [self.top_classical(1)[0].word],
            "transformer_run": lambda _: [self._transformer_run().word],
            "top": lambda number: [run.word for run in self.top_classical(int(number))],
            "top_cv": lambda number: [run.word for run in self.top_cross_validated(int(number))],
            "option": self._option,
            "reference": lambda _: [w for w in asked.words if override_key(w) == "reference"],
            "runs": lambda stage: [run.word for run in self.runs(stage)],
        }

    def commands(self, stage: str) -> list[Command]:
        """Return a stage's commands, in order."""
        made: list[Command] = []
        for step in self._settings.stages[stage].steps:
            runs: list[str | None] = [*step.each] or [None]
            for run in runs:
                made.append(self._command(stage, step, run, made))
        return made

    def runs(self, stage: str) -> list[FoundRun]:
        """Return a stage's finished runs.

        Raises:
            NotYet: There are none.
        """
        found = self._runs_of([stage])
        if not found:
            raise NotYet(f"needs a run of the stage '{stage}', which has none", final=self._is_out([stage]))
        return found

    def top_classical(self, number: int) -> list[FoundRun]:
        """Return the best classical runs on all of the study's rows by validation, the best first.

        Raises:
            NotYet: The stages that compete have not ended, or have no such run.
        """
        return _best(self._competing(), CHOICE, number)

    def top_cross_validated(self, number: int) -> list[FoundRun]:
        """Return the best classical runs in cross-validation, among those with the commonest number of folds.

        Raises:
            NotYet: As for :meth:`top_classical`, or fewer than two have the same folds.
        """
        groups: dict[int, list[FoundRun]] = {}
        for run in self._competing():
            if run.result.get("folds"):
                groups.setdefault(len(next(iter(run.result["folds"].values()))), []).append(run)
        largest = max(groups.values(), key=len, default=[])
        if len(largest) < 2:
            raise NotYet("needs two classical runs with the same folds", final=True)
        return _best(largest, "cv/macro_f1", number)

    def timeless(self, word: str) -> str:
        """Return a word with the fingerprints of runs instead of their folders, whose names tell when they began."""

        def fingerprint(found: re.Match[str]) -> str:
            result = record.RunFolder(self._state.output_dir / found[0]).result()
            return found[0] if result is None else str(result["fingerprint"])

        return _RUN_FOLDER.sub(fingerprint, word)

    def _competing(self) -> list[FoundRun]:
        names = [name for name, stage in self._settings.stages.items() if stage.competes]
        found = [run for run in self._runs_of(names) if self._competes(run)]
        if not found:
            raise NotYet("needs a classical run", final=self._is_out(names))
        return found

    def _competes(self, run: FoundRun) -> bool:
        result = run.result
        on_all_rows = abs(float(result["data_fraction"]) - self._asked.fraction) < 1e-9
        scored = CHOICE in result["metrics"] and "test/macro_f1" in result["metrics"]
        return result["family"] == "classical" and on_all_rows and scored and (run.path / record.MODEL).is_dir()

    def _runs_of(self, stages: Sequence[str]) -> list[FoundRun]:
        for name in stages:
            if not self._state.settled(name):
                raise NotYet(f"waits for the stage '{name}'")
        paths = dict.fromkeys(path for stage in stages for path in self._state.runs(stage))
        found = ((path, record.RunFolder(path).result()) for path in paths)
        return [FoundRun(p, os.path.relpath(p, self._state.output_dir), r) for p, r in found if r is not None]

    def _is_out(self, stages: Sequence[str]) -> bool:
        return all(self._state.status(name) == "left_out" for name in stages)

    def _command(self, stage: str, step: StepSettings, run: str | None, before: Sequence[Command]) -> Command:
        sweep = next((c.sweep for c in reversed(before) if c.sweep is not None), None)
        local: dict[str, Callable[[str], list[str]]] = {
            "folder": lambda _: [str(self._state.output_dir / STUDIES / self._asked.name / stage)],
            "sweep": lambda _: [_known(sweep, stage)],
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
            words, name = self._completed(words, stage, len(before), transformer="<transformer>" in step.words)
        return Command(tuple(words), name, sweep if "<sweep>" in step.words else None, folder)

    def _filled(self, word: str, local: Mapping[str, Callable[[str], list[str]]]) -> Iterator[str]:
        """Yield a word with its placeholders filled; one that is a placeholder alone may become several words."""
        if whole := _PLACEHOLDER.fullmatch(word):
            yield from self._value(whole[1], whole[2] or "", local)
        else:
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

    def _transformer_fraction(self) -> float:
        if self._transformer is None:
            raise NotYet("no transformer can be had here", final=True)
        return self._asked.fraction * self._settings.transformers[self._transformer].fraction

    def _transformer_words(self) -> list[str]:
        fraction = f"data_fraction={_fractions('1', self._transformer_fraction())}"
        return [*shlex.split(self._settings.transformers[str(self._transformer)].words), fraction]

    def _transformer_run(self) -> FoundRun:
        self._transformer_fraction()
        return self.runs("transformer")[0]

    def _fraction_words(self) -> list[str]:
        return [f"data_fraction={self._asked.fraction:g}"] if self._asked.fraction < 1 else []

    def _data_words(self) -> list[str]:
        data = [w for w in self._asked.words if re.split(r"[./]", override_key(w))[0] in _DATA_KEYS]
        return [*data, *self._fraction_words()]

    def _completed(
        self, words: Sequence[str], stage: str, number: int, *, transformer: bool
    ) -> tuple[list[str], str | None]:
        """Add to a run's or a sweep's own overrides those of the study, which win, and the sweep's name."""
        sweeping = "-m" in words
        own = [w for w in words[1:] if w != "-m"]
        jobs = launcher_words(self._machine, self._settings.jobs, transformer=transformer) if sweeping else []
        given = [w for w in self._asked.words if sweeping or not override_key(w).startswith("hydra.launcher")]
        every = [*self._fraction_words(), f"tags.study={self._asked.name}", *jobs, *own, *given]
        kept = list({override_key(w): w for w in every}.values())
        if not sweeping:
            return ["run", *kept], None
        science = [self.timeless(w) for w in kept if not w.startswith("hydra.launcher.")]
        digest = hashlib.sha256("\n".join([__version__, *science]).encode()).hexdigest()[:6]
        name = f"{self._asked.name}-{stage}-{number + 1}-{digest}"
        return ["run", "-m", *kept, f"sweep.name={name}"], name


def _best(runs: Sequence[FoundRun], metric: str, number: int) -> list[FoundRun]:
    """Return the runs with the highest metric, one a fingerprint; ties go by fingerprint."""
    distinct = {str(run.result["fingerprint"]): run for run in runs}
    order = sorted(distinct, key=lambda name: (-float(distinct[name].result["metrics"][metric]), name))
    return [distinct[name] for name in order[:number]]


def _known(sweep: str | None, stage: str) -> str:
    if sweep is None:
        raise ConfigError(f"study.stages.{stage}: <sweep> stands before any sweep of this stage.")
    return sweep


def _fractions(shares: str, whole: float) -> str:
    try:
        return ",".join(f"{float(share) * whole:.6g}" for share in shares.split(","))
    except ValueError:
        raise ConfigError(f"conf/study: '{shares}' is no list of shares.", fix="write <part:0.1,1.0>") from None


def _missing_experiment(words: Sequence[str]) -> str | None:
    for word in words:
        key, _, choice = word.partition("=")
        if key == "experiment" and not (config_folder() / "experiment" / f"{choice}.yaml").is_file():
            return f"there is no experiment={choice}"
    return None

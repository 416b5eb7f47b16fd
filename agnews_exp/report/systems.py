"""Finished runs as a report reads them, and systems: a model over its seeds, with intervals over rows and seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from agnews_exp.config.validation import flat
from agnews_exp.evaluation.stored_answers import StoredAnswers, stored_answers
from agnews_exp.evaluation.tasks import Task, task_of_record
from agnews_exp.reference.reading import OwnResult
from agnews_exp.tracking.record import ANALYSES, CONFIG, ENVIRONMENT, PREDICTIONS, RunFolder, read_json, repetition

RESAMPLES = 2000
"""Of every bootstrap interval in the report; percentile intervals, seed 0."""

_DIGITS = 8
_LONE_RUN = re.compile(r"(?:runs/)?(\d{8}-\d{6}-\d{6}-[0-9a-f]{6})")


def stable_name(run: RunFolder, fingerprint: str, output_dir: Path) -> str:
    """Return ``sweeps/<sweep>/<job>``, or a lone run's fingerprint as far as commands need it."""
    if run.path.parent.name == "sweeps" or run.path.parent.parent.name == "sweeps":
        return run.path.relative_to(output_dir).as_posix() if run.path.is_relative_to(output_dir) else str(run.path)
    return fingerprint[:_DIGITS]


class RunNames:
    """Puts the names of runs in the place of their folders, in commands and stored summaries; the root is cut off."""

    def __init__(self, output_dir: Path) -> None:
        self._names: dict[str, str] = {}
        places = {str(output_dir), str(output_dir.resolve())}
        self._root = re.compile("|".join(re.escape(f"{place}/") for place in sorted(places)))

    def add(self, names: Mapping[str, str]) -> None:
        """Learn the names of runs by their folders' names."""
        self._names |= names

    def clean(self, text: str) -> str:
        """Return a text in which no folder tells when a run began or where the project lies."""
        return _LONE_RUN.sub(lambda m: self._names.get(m[1], m[0]), self._root.sub("", text))


# What two runs of one model may differ in: no part of the model.
_APART = ("tags", "name", "seed", "force", "resume", "sweep", "paths", "tracking", "hydra")


class StoredRun:
    """A finished run: its record, its result.json and the short word that finds it again.

    Raises:
        KeyError: The result lacks what every run has.
    """

    def __init__(self, folder: RunFolder, result: Mapping[str, Any], short: str, names: RunNames) -> None:
        self.folder, self.result, self.short, self.names = folder, result, short, names
        self.name, self.model, self.features = (str(result[k]) for k in ("name", "model", "features"))
        self.family = str(result["family"])
        self.fraction, self.seed = float(result["data_fraction"]), int(result["seed"])
        self.metrics: Mapping[str, float] = result["metrics"]
        self.timings: Mapping[str, float] = result["timings"]
        self.folds: Mapping[str, list[float]] = result.get("folds") or {}
        self.class_names = tuple(str(name) for name in result["class_names"])
        data = result["data"]
        self.checksum, self.source = str(data["evaluation_checksum"]), str(data["name"])
        self.rows: Mapping[str, int] = data["rows"]
        self.group, self.fingerprint = str(result["group_fingerprint"]), str(result["fingerprint"])
        self._answers: dict[str, StoredAnswers | None] = {}
        self._intervals: dict[tuple[str, str], tuple[float, float] | None] = {}

    @property
    def key(self) -> tuple[str, float, int, str]:
        """Sorts runs by what they are, not by when they ran."""
        return self.name, self.fraction, self.seed, self.fingerprint

    @property
    def task(self) -> Task:
        """What its labels are."""
        return task_of_record(self.result)

    @property
    def n_folds(self) -> int:
        """Folds of its cross-validation, 0 without."""
        return len(next(iter(self.folds.values()), []))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration, flat: dotted key to value."""
        found = flat(self.folder.config()) if (self.folder.path / CONFIG).is_file() else {}
        return {key: self.names.clean(value) if isinstance(value, str) else value for key, value in found.items()}

    @cached_property
    def scientific(self) -> dict[str, Any]:
        """The part of the configuration that makes the model another one."""
        return {k: v for k, v in self.config.items() if k.partition(".")[0] not in _APART}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json."""
        return read_json(self.folder.path / ENVIRONMENT) or {}

    @property
    def device(self) -> str:
        """Processor or GPU, in words."""
        gpus = self.environment.get("gpus") or self.environment.get("gpu")
        if gpus:
            return ", ".join(map(str, gpus)) if isinstance(gpus, list) else str(gpus)
        return f"{self.environment.get('cpu', 'CPU')}, {self.environment.get('cpu_cores', '?')} cores"

    @property
    def command(self) -> str:
        """What repeats it: for a job of a sweep, the sweep's command."""
        if self.folder.path.parent.parent.name == "sweeps":
            sweep = read_json(self.folder.path.parent / "sweep.json") or {}
            return self.names.clean(str(sweep.get("command") or f"agnews sweeps show {self.folder.path.parent.name}"))
        words = [str(word) for word in self.environment.get("command") or ["run.py"]]
        program = words[0] if words[0].startswith("agnews") else f"python {Path(words[0]).name}"
        kept = [word for word in words[1:] if not word.startswith(("hydra.run.dir", "--config"))]
        return self.names.clean(" ".join([program, *kept]))

    def answers(self, split: str) -> StoredAnswers | None:
        """Return the stored answers of a split, or None."""
        if split not in self._answers:
            path = self.folder.path / PREDICTIONS
            found = stored_answers(path, split, self.class_names) if path.is_file() else None
            self._answers[split] = found if found is not None and len(found.row_ids) else None
        return self._answers[split]

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the bootstrap interval of such as ``test/macro_f1`` over the split's rows, or None."""
        split, _, name = metric.partition("/")
        if (split, name) not in self._intervals:
            from agnews_exp.evaluation.statistics.effect_size import metric_interval

            answers, found = self.answers(split), None
            if answers is not None:
                labels, given = answers.labels, answers.given.labels
                found = metric_interval(labels, given, name, self.class_names, resamples=RESAMPLES)
            self._intervals[split, name] = found
        return self._intervals[split, name]

    def analysis(self, name: str) -> dict[str, Any] | None:
        """Return findings.json of an analysis, or None."""
        return read_json(self.analysis_folder(name) / "findings.json")

    def analysis_folder(self, name: str) -> Path:
        """Return where an analysis of this run lies, if it does."""
        return self.folder.path / ANALYSES / name

    @property
    def analyses(self) -> tuple[str, ...]:
        """Names of the analyses that it holds, in alphabetical order."""
        return tuple(sorted(path.parent.name for path in self.analysis_folder("").glob("*/findings.json")))

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Lines of history.jsonl: values by training step; empty for models without steps."""
        path = self.folder.path / "history.jsonl"
        if not path.is_file():
            return []
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                content = json.loads(line)
            except ValueError:  # the torn last line of a run that was killed
                continue
            if isinstance(content, dict):
                lines.append(content)
        return lines


_SHOWN_KEYS = 3
_UNTOLD = (
    "evaluation.analyses",
    "evaluation.latency_repeats",
    "evaluation.primary",
    "evaluation.name",
    "evaluation.score_test",
    "trainer.n_jobs",
    "trainer.num_workers",
    "trainer.progress_bar",
    "data.",
)


@dataclass(frozen=True, eq=False)
class System:
    """A model, over its seeds."""

    label: str  # its name, with what tells it from others of that name
    runs: tuple[StoredRun, ...]  # its runs, lowest seed first

    @property
    def first(self) -> StoredRun:
        """The run of the lowest seed: the one whose answers give the interval."""
        return self.runs[0]

    @property
    def setting(self) -> frozenset[tuple[str, str]]:
        """The settings that make it differ from others, but for the rows that it was trained on."""
        rows = ("data_fraction", "subset_seed")
        config = self.first.scientific
        return frozenset(
            (k, str(v)) for k, v in config.items() if _tells(k) and k not in rows and not k.endswith(".name")
        ) | {("name", self.first.model), ("features", self.first.features)}

    @property
    def cost(self) -> float:
        """Seconds for a text in batches; where that was not measured, seconds of fitting, behind all that were."""
        speed = self.first.metrics.get("throughput_batch")
        return 1 / speed if speed else 1e6 + self.first.timings.get("fit", 0.0)

    def own_result(self) -> OwnResult:
        """Return it as published results are set beside it."""
        first = self.first
        keys = dict.fromkeys(key for run in self.runs for key in run.metrics)
        metrics = {key: mean for key in keys if (mean := self.mean(key)) is not None}
        spreads = {f"{key}_seeds": sd for key in ("val/macro_f1",) if (sd := self.spread(key)) is not None}
        findings = {name: found for name in first.analyses if (found := first.analysis(name)) is not None}
        return OwnResult.of(
            first.result, first.config, name=self.label, interval=first.interval, findings=findings,
            metrics={"fit_seconds": first.timings.get("fit", 0.0), **metrics, **spreads},
        )  # fmt: skip

    @property
    def fits_on_validation(self) -> bool:
        """Whether validation rows fitted a part of it, so that its validation score flatters it."""
        return self.first.family == "cascade"

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds, or None when no run has the metric."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over seeds, or None for fewer than two."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return stdev(values) if len(values) > 1 else None

    def joint_interval(self, metric: str) -> tuple[float | None, float | None, float | None]:
        """Return the mean over seeds with a 95 % interval over rows and seeds: would it hold on new rows and new seeds?

        The rows' part is the bootstrap interval of the lowest seed's run, moved to the mean; the seeds' part is the t
        interval of their mean. The two vary independently, so their squares add.
        """
        rows = self.first.interval(metric)
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        if len(values) < 2 or rows is None:
            return (fmean(values) if values else None, *(rows or (None, None)))
        from scipy import stats

        own, middle = self.first.metrics[metric], fmean(values)
        reach = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
        below, above = float(np.hypot(own - rows[0], reach)), float(np.hypot(rows[1] - own, reach))
        return middle, max(0.0, middle - below), min(1.0, middle + above)


def make_systems(runs: Sequence[StoredRun]) -> tuple[System, ...]:
    """Group runs by what they are but for the seed, the best mean validation macro-F1 first; labels are distinct."""
    groups: dict[str, dict[tuple[int, int], StoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.key):
        groups.setdefault(run.group, {})[repetition(run.result)] = run  # of repeated runs of one seed, one counts
    members = [tuple(group[seed] for seed in sorted(group)) for group in groups.values()]
    labels = _labels([group[0] for group in members])
    systems = [System(label, group) for label, group in zip(labels, members, strict=True)]
    return tuple(sorted(systems, key=lambda s: (-(s.mean("val/macro_f1") or 0.0), s.label)))


def _labels(runs: Sequence[StoredRun]) -> list[str]:
    named: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        named.setdefault(run.name, []).append(place)
    labels = [run.name for run in runs]
    for places in named.values():
        if len(places) < 2:
            continue
        same = [runs[place].scientific for place in places]
        keys = [
            k for k in dict.fromkeys(k for config in same for k in config) if len({str(c.get(k)) for c in same}) > 1
        ]
        keys = [k for k in keys if _tells(k)]
        keys.sort(key=lambda k: (k != "data_fraction", k.endswith("name"), k.count("."), k))
        # Keys with the same pattern of values (a choice and all that it sets) tell the same: one of them is enough.
        kept: dict[tuple[str, ...], str] = {}
        for key in keys:
            kept.setdefault(tuple(str(config.get(key)) for config in same), key)
        for place, words in zip(places, _told_apart(same, list(kept.values())), strict=True):
            labels[place] += f" ({', '.join(words)})" if words else ""
    shared = {label for label in labels if labels.count(label) > 1}
    return [
        f"{label} {run.fingerprint[:6]}" if label in shared else label for label, run in zip(labels, runs, strict=True)
    ]


def _told_apart(configs: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[list[str]]:
    """Return words for each configuration: those of the first keys, and of more for those that these leave alike."""
    told: list[list[str]] = [[] for _ in configs]
    for number, key in enumerate(keys):
        before = list(told)
        for place, config in enumerate(configs):
            alike = [other for other, words in zip(configs, before, strict=True) if words == before[place]]
            wanted = number < _SHOWN_KEYS or len({str(other.get(key)) for other in alike}) > 1
            if wanted and config.get(key) is not None:
                value = config[key]  # a search draws 16 digits; four tell its systems apart, or else a fingerprint
                said = f"{value:.4g}" if isinstance(value, float) else str(value)
                told[place] = [*told[place], f"{_short(key)} {said}"]
    return told


def _tells(key: str) -> bool:
    """How a run was judged, where it ran and how it was logged is not what a reader tells systems apart by."""
    return not key.startswith(_UNTOLD) and not key.endswith("random_state")


def _short(key: str) -> str:
    return "data" if key == "data_fraction" else key.rpartition(".")[2]

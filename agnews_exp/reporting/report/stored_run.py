"""One finished run as the report sees it: its record, opened when first asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from agnews_exp.reporting.report.answers import Answers, metric_interval, read_answers
from agnews_exp.reporting.report.naming import RunNames
from agnews_exp.tracking.record import ANALYSES, CONFIG, ENVIRONMENT, PREDICTIONS, RunFolder, read_json

# What two runs of one model may differ in: no part of the model.
_APART = ("tags", "name", "seed", "force", "resume", "sweep", "paths", "tracking", "hydra")


class StoredRun:
    """A finished run.

    Args:
        folder: Its record.
        result: Its result.json.
        short: A short word that finds it again.
        names: What runs are called wherever their folders are named.

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
        self.checksum, self.source = str(data["evaluation_checksum"]), str(data["source"])
        self.rows: Mapping[str, int] = data["rows"]
        self.group, self.fingerprint = str(result["group_fingerprint"]), str(result["fingerprint"])
        self._answers: dict[str, Answers | None] = {}
        self._intervals: dict[tuple[str, str], tuple[float, float] | None] = {}

    @property
    def key(self) -> tuple[str, float, int, str]:
        """Sorts runs by what they are, not by when they ran."""
        return self.name, self.fraction, self.seed, self.fingerprint

    @property
    def n_folds(self) -> int:
        """Folds of its cross-validation, 0 without."""
        return len(next(iter(self.folds.values()), []))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration, flat: dotted key to value."""
        flat = _flat(self.folder.config()) if (self.folder.path / CONFIG).is_file() else {}
        return {key: self.names.clean(value) if isinstance(value, str) else value for key, value in flat.items()}

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
    def is_job(self) -> bool:
        """Whether a sweep started it."""
        return self.folder.path.parent.parent.name == "sweeps"

    @property
    def command(self) -> str:
        """What repeats it: for a job of a sweep, the sweep's command."""
        if self.is_job:
            sweep = read_json(self.folder.path.parent / "sweep.json") or {}
            return self.names.clean(str(sweep.get("command") or f"agnews sweeps show {self.folder.path.parent.name}"))
        words = [str(word) for word in self.environment.get("command") or ["run.py"]]
        program = words[0] if words[0].startswith("agnews") else f"python {Path(words[0]).name}"
        kept = [word for word in words[1:] if not word.startswith(("hydra.run.dir", "--config"))]
        return self.names.clean(" ".join([program, *kept]))

    def answers(self, split: str) -> Answers | None:
        """Return the stored answers of a split, or None."""
        if split not in self._answers:
            self._answers[split] = read_answers(self.folder.path / PREDICTIONS, split, self.class_names)
        return self._answers[split]

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the bootstrap interval of such as ``test/macro_f1`` over the split's rows, or None."""
        split, _, name = metric.partition("/")
        if (split, name) not in self._intervals:
            answers = self.answers(split)
            self._intervals[split, name] = None if answers is None else metric_interval(answers, name, self.class_names)
        return self._intervals[split, name]

    def analysis(self, name: str) -> dict[str, Any] | None:
        """Return findings.json of an analysis, or None."""
        return read_json(self.analysis_folder(name) / "findings.json")

    def analysis_folder(self, name: str) -> Path:
        """Return where an analysis of this run lies, if it does."""
        return self.folder.path / ANALYSES / name

    def summary(self, name: str) -> str:
        """Return an analysis's summary in Markdown, empty when there is none."""
        path = self.analysis_folder(name) / "summary.md"
        return self.names.clean(path.read_text(encoding="utf-8")) if path.is_file() else ""

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


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat

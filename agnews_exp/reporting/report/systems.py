"""Systems: runs that differ in their seed only are one, and every one has a name that tells it from the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from agnews_exp.reporting.report.stored_run import StoredRun

_SHOWN_KEYS = 3
_SHARE = re.compile(r"/(accuracy|(macro|micro|weighted)_(f1|precision|recall)|(f1|precision|recall)/.+)$")
"""Metrics between 0 and 1."""
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
    """A model, over its seeds.

    Attributes:
        label: Its name, with what tells it from others of that name.
        runs: Its runs, lowest seed first.
    """

    label: str
    runs: tuple[StoredRun, ...]

    @property
    def first(self) -> StoredRun:
        """The run of the lowest seed: the one whose answers give the interval."""
        return self.runs[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def setting(self) -> frozenset[tuple[str, str]]:
        """What makes it what it is, but for the share of the rows that it was trained on."""
        config = self.first.scientific
        return frozenset(
            (k, str(v)) for k, v in config.items() if _tells(k) and k != "data_fraction" and not k.endswith(".name")
        ) | {("name", self.first.model), ("features", self.first.features)}

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

    def mean_interval(self, metric: str) -> tuple[float | None, float | None, float | None]:
        """Return the mean over seeds with its 95 % t interval, or with one seed the value with its bootstrap interval.

        The interval of a score between 0 and 1 ends there; with two or three seeds it would often run past.

        Args:
            metric: Name as stored, such as ``val/macro_f1``.

        Returns:
            Mean, lower and upper end; None for what the runs do not have.
        """
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        if len(values) > 1:
            from scipy import stats

            reach = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
            ends = fmean(values) - reach, fmean(values) + reach
            if _SHARE.search(metric):
                ends = max(0.0, ends[0]), min(1.0, ends[1])
            return (fmean(values), *ends)
        low, high = self.first.interval(metric) or (None, None)
        return (values[0] if values else None), low, high


def make_systems(runs: Sequence[StoredRun]) -> tuple[System, ...]:
    """Group runs by what they are but for the seed, the best mean validation macro-F1 first.

    Args:
        runs: Finished runs.

    Returns:
        Systems with distinct labels.
    """
    groups: dict[str, dict[int, StoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.key):
        groups.setdefault(run.group, {})[run.seed] = run  # of repeated runs of one seed, one counts
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
                told[place] = [*told[place], f"{_short(key)} {_rounded(config[key])}"]
    return told


def _tells(key: str) -> bool:
    """How a run was judged, where it ran and how it was logged is not what a reader tells systems apart by."""
    return not key.startswith(_UNTOLD) and not key.endswith("random_state")


def _rounded(value: Any) -> str:
    """A search draws 16 digits; four tell its systems apart, and what they do not tell apart gets a fingerprint."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(key: str) -> str:
    return "data" if key == "data_fraction" else key.rpartition(".")[2]

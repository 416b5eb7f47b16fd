"""`agnews top`: the finished runs of a project, best first, never two that were judged on different rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import AgnewsError, ConfigError, StorageError, unknown_name
from agnews_exp.evaluation.metrics import direction, own_directions
from agnews_exp.evaluation.stored_answers import stored_answers
from agnews_exp.tracking.record import CONFIG, PREDICTIONS, RunFolder, read_config

log = logging.getLogger(__name__)

_NEEDED: tuple[str, ...] = (
    "name",
    "metrics",
    "data_fraction",
    "seed",
    "data.name",
    "data.rows",
    "data.evaluation_checksum",
)

_RESAMPLES = 1000

FIELDS = ("name", "model", "features", "family", "data_fraction", "seed", "split_seed")


@dataclass(frozen=True)
class Entry:
    """A finished run on the leaderboard."""

    folder: RunFolder  # its record
    result: Mapping[str, Any]  # its result.json
    value: float  # the metric that ranks it

    @property
    def fits_on_validation(self) -> bool:
        """Whether validation rows fitted a part of it (cascades, blends), so that its validation score flatters it."""
        return self.result.get("family") == "cascade"

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return a metric's 95 % interval over the split's rows; None where the answers do not give one."""
        from agnews_exp.evaluation.statistics.effect_size import metric_interval

        split, _, name = metric.partition("/")
        try:
            names = tuple(self.result["class_names"])
            found = stored_answers(self.folder.path / PREDICTIONS, split, names)
            return metric_interval(found.labels, found.given.labels, name, names, resamples=_RESAMPLES)
        except (AgnewsError, KeyError):
            return None


def rank_runs(runs: Iterable[RunFolder], metric: str, filters: Sequence[str] = ()) -> list[list[Entry]]:
    """Rank finished runs by a metric such as ``val/macro_f1``.

    Filters are ``key=value`` with a key of ``FIELDS``, ``data``, or a dotted key of the configuration.

    Returns:
        One list for each data set and split, that of the newest run first; in each the best run first, or the
        highest value where the register of metrics does not say what is better.

    Raises:
        ConfigError: A filter is malformed, or no run has the metric.
    """
    for word in filters:
        _parsed(word)  # refused also where there is no run yet
    groups: dict[str, list[Entry]] = {}
    known: set[str] = set()
    own: dict[str, bool] = {}
    for run in runs:
        try:
            result = run.needed_result(*_NEEDED)
            if not matches(run, result, filters):
                continue
        except StorageError as error:
            log.warning("%s The run is left out.", error.message)
            continue
        known |= set(result["metrics"])
        own |= own_directions(result)
        if metric in result["metrics"]:
            entry = Entry(run, result, float(result["metrics"][metric]))
            groups.setdefault(str(result["data"]["evaluation_checksum"]), []).append(entry)
    if known and not groups:
        raise unknown_name("metric", metric, sorted(known))
    sign = 1 if direction(metric, own) == "minimize" else -1
    for group in groups.values():
        group.sort(key=lambda entry: sign * entry.value)
    return sorted(groups.values(), key=lambda g: max(entry.folder.ended for entry in g), reverse=True)


def matches(run: RunFolder, result: Mapping[str, Any], filters: Sequence[str]) -> bool:
    """Return whether a run answers all filters, which are as for :func:`rank_runs`.

    Raises:
        ConfigError: A filter is malformed.
    """
    return all(_matches(run.path, result, *_parsed(word)) for word in filters)


def _parsed(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"--filter {word}: it must be key=value.", fix="--filter model=linear_svc")
    return key.strip(), value.strip()


def _matches(path: Path, result: Mapping[str, Any], key: str, value: str) -> bool:
    if key in FIELDS:
        found = result.get(key)
    elif key == "data":
        found = result["data"]["name"]
    else:
        found = _configured(path, key)
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found) == float(value)
        except ValueError:
            return False
    return str(found).lower() == value.lower()


def _configured(path: Path, key: str) -> Any:
    found: Any = read_config(path / CONFIG)
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found

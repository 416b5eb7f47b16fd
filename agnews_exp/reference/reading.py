"""The reader of published results, and the verdict on one of them.

A number is judged by equivalence, not by whether a point lies in an interval: it is reproduced when the whole 95 %
interval of (own - published) lies within a stated margin, contradicted when the interval lies wholly outside it, and
cannot be judged otherwise. A 95 % interval makes both of the one-sided tests (Schuirmann 1987) ones at 2.5 %.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.evaluation.inputs import Result
from agnews_exp.evaluation.metrics import column_key

SOURCE, RESULTS = "source.yaml", "results.csv"
REPRODUCED, CONTRADICTED, UNJUDGED = "reproduced", "contradicted", "cannot be judged with these data"
MARGIN = 0.01
"""Scores between 0 and 1 that differ by less count as the same."""

_NEEDED = ("system", "split", "metric", "value")
_OF_MACHINE = ("throughput_batch", "fit_seconds", "latency_single_ms", "peak_memory_mb")


@dataclass(frozen=True)
class Published:
    """One published number."""

    system: str  # as its authors call it
    # What a run here must have to stand beside it, such as ``{"model": "logreg", "data_fraction": "0.5"}``; empty where
    # nothing here corresponds.
    settings: Mapping[str, str]
    split: str  # ``val``, ``test``, ``cv``, ``external``, or empty for what belongs to no split
    metric: str  # as in a run's record, such as ``macro_f1``
    value: float  # the number
    rows: int | None = None  # rows that it was computed on, where known
    seeds: int | None = None  # runs that it is the mean of, where known
    where: str = ""  # the place in the source

    @property
    def key(self) -> str:
        """The metric's name in a run's record."""
        return f"{self.split}/{self.metric}" if self.split else self.metric


@dataclass(frozen=True, eq=False)
class OwnResult:
    """A finished run, or a model over its seeds, as far as published numbers are set beside it."""

    name: str  # as a reader knows it
    family: str  # ``classical``, ``transformer`` or ``cascade``
    corpus: str  # the source of its data, such as ``ag_news:csv``
    rows: Mapping[str, int]  # rows by split
    config: Mapping[str, Any]  # its flat configuration, with ``model`` and ``features`` for the names of these groups
    metrics: Mapping[str, float]  # means over its seeds
    # Returns the 95 % interval of a metric, or None.
    interval: Callable[[str], tuple[float, float] | None] = lambda _: None
    # The findings.json of its analyses, by name.
    findings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folds: int = 0  # folds of its cross-validation; 0 without

    @property
    def model(self) -> str:
        """The model's name in the configuration."""
        return str(self.config.get("model"))

    @classmethod
    def of(cls, result: Mapping[str, Any], config: Mapping[str, Any], **more: Any) -> OwnResult:
        """Return a run's result from its result.json and flat configuration; ``more`` are further attributes."""
        names = {"model": result["model"], "features": result["features"], "data_fraction": result["data_fraction"]}
        timings = {"fit_seconds": float(result["timings"]["fit"])} if "fit" in result["timings"] else {}
        return cls(
            **{
                "name": str(result["name"]),
                "family": str(result["family"]),
                "corpus": str(result["data"]["source"]),
                "rows": result["data"]["rows"],
                "config": {**config, **names},
                "metrics": {**timings, **result["metrics"]},
                "folds": len(next(iter((result.get("folds") or {}).values()), [])),
            }
            | more
        )


@dataclass(frozen=True)
class Judged:
    """The verdict on a published number or sentence."""

    verdict: str  # ``reproduced``, ``contradicted`` or ``cannot be judged with these data``
    said: str  # the own finding, with its split
    needed: str = ""  # the runs or data that a judgement would need, where there is none


def unjudged(needed: str, said: str = "") -> Judged:
    """Return the verdict that there is none, and what one would need."""
    return Judged(UNJUDGED, said, needed)


@dataclass(frozen=True, eq=False)
class Reference:
    """Published results and where they are from."""

    name: str  # how it was chosen
    folder: Path  # its files
    source: Mapping[str, Any]  # the content of source.yaml
    results: tuple[Published, ...]  # its numbers

    @property
    def introduction(self) -> str:
        """Two sentences on the publication and its split of the data."""
        who = ", ".join(str(self.source[key]) for key in ("authors", "year") if self.source.get(key))
        link = f" ({self.source['link']})" if self.source.get("link") else ""
        split = str(self.source.get("split") or "its authors do not say").strip().rstrip(".")
        said = f"The published numbers are those of {who + ': ' if who else ''}{self.source['title']}{link}."
        return f"{said} Its split: {split}."

    def table(self, name: str) -> list[dict[str, str]]:
        """Return the rows of another of its CSVs, such as ``claims``; none where there is no such file."""
        path = self.folder / f"{name}.csv"
        return read_csv(path) if path.is_file() else []

    def value(self, system: str, split: str, metric: str) -> float:
        """Return one number of its results."""
        return self._by_name[system, split, metric]

    @cached_property
    def _by_name(self) -> dict[tuple[str, str, str], float]:
        return {(line.system, line.split, line.metric): line.value for line in self.results}

    def beside(self, published: Published, own: Sequence[OwnResult]) -> OwnResult | None:
        """Return the own result that stands beside a number: of those with its settings, that of the most rows."""
        found = [
            one
            for one in own
            if published.settings
            and published.key in one.metrics
            and all(has(one, key, value) for key, value in published.settings.items())
        ]
        return max(found, key=lambda one: one.rows.get("train", 0), default=None)

    def unlike(self, own: OwnResult, share: float = 1.0) -> str:
        """Return the setting that a run lacks to judge systems trained on this share of the rows; empty: none."""
        corpus, needed = str(self.source.get("corpus") or ""), (self.source.get("rows") or {}).get("train")
        if corpus and not own.corpus.startswith(corpus):
            return f"runs on {corpus}; this one is on {own.corpus}"
        rows = own.rows.get("train", 0)
        if needed and rows < 0.99 * share * needed:
            return f"{share * needed:,.0f} training rows; this run had {rows:,}"
        return ""

    def judge(self, published: Published, own: OwnResult | None, margin: float = MARGIN) -> Judged:
        """Judge one published number by the run beside it.

        The margin is one of scores; of sizes it is a fifth of the number, and times of another machine are not judged.
        """
        if own is None:
            return unjudged("a run of " + " ".join(f"{k}={v}" for k, v in published.settings.items()))
        value = own.metrics[published.key]
        ends = own.interval(published.key)
        said = f"{own.name}: {published.key} {_shown(value, ends)}"
        if published.metric in _OF_MACHINE:
            return unjudged("the machine of the source: times and speeds of another one say nothing", said)
        if lacks := self.unlike(own, float(published.settings.get("data_fraction", 1))):
            return unjudged(lacks, said)
        if published.metric == "model_size_mb":
            return compared(value, published.value, (value, value), published.value / 5, said)
        if ends is None:
            return unjudged("stored answers, for an interval", said)
        same_rows = published.split == "test" and own.rows.get("test") == published.rows
        error = 0.0
        if (
            published.rows and not same_rows
        ):  # other rows of the same kind: the published number has an error of its own
            error = 1.96 * math.sqrt(max(0.0, published.value * (1 - published.value)) / published.rows)
        reach = math.hypot((ends[1] - ends[0]) / 2, error)
        return compared(value, published.value, (value - reach, value + reach), margin, said)


def compared(value: float, published: float, ends: tuple[float, float], margin: float, said: str) -> Judged:
    """Judge by equivalence, within a margin, a number of which ``ends`` is the own 95 % interval."""
    low, high = ends[0] - published, ends[1] - published
    said = f"{said}; {value - published:+.4f} to the published {published:.4g}, margin {margin:.3g}"
    if -margin <= low and high <= margin:
        return Judged(REPRODUCED, said)
    if low > margin or high < -margin:
        return Judged(CONTRADICTED, said)
    return unjudged("more rows or seeds: the interval reaches over the margin", said)


def has(own: OwnResult, key: str, wanted: str) -> bool:
    """Return whether a run has a setting; a number equals however it is written."""
    found = own.config.get(key)
    try:
        return float(found) == float(wanted)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(found) == wanted


def _shown(value: float, ends: tuple[float, float] | None) -> str:
    text = f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
    return text if ends is None else f"{text} [{ends[0]:.4f}, {ends[1]:.4f}]"


def find_reference(name: str, root: Path | None = None) -> Reference:
    """Open a reference by the name of one that ships, or by its folder, relative to the project's root.

    Raises:
        ConfigError: There is none of this name, or a file of it cannot be read.
    """
    import yaml

    place = Path(str(files("agnews_exp.reference")))
    shipped = sorted(path.parent.name for path in place.glob(f"*/{SOURCE}"))
    folder = place / name if name in shipped else (root or Path()) / name
    if not (folder / SOURCE).is_file():
        raise (
            unknown_name("reference", name, shipped)
            if not folder.is_dir()
            else ConfigError(
                f"{folder} is no reference: it has no {SOURCE}.",
                fix=f"write {SOURCE} (title, split) and {RESULTS} there",
            )
        )
    source = yaml.safe_load((folder / SOURCE).read_text(encoding="utf-8"))
    if not isinstance(source, dict) or not source.get("title"):
        raise ConfigError(f"{folder / SOURCE} names no title.", fix="title: ... ; authors, year, link and split help")
    return Reference(name, folder, source, tuple(_published(folder / RESULTS)))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _published(path: Path) -> list[Published]:
    if not path.is_file():
        raise ConfigError(f"{path} is missing.", fix=f"a CSV with the columns {', '.join(_NEEDED)}")
    lines = read_csv(path)
    if lines and (missing := [name for name in _NEEDED if name not in lines[0]]):
        raise ConfigError(f"{path} has no column {', '.join(missing)}.", fix=f"its columns: {', '.join(_NEEDED)}")
    found = []
    for number, line in enumerate(lines, start=2):
        try:
            settings = dict(word.split("=", 1) for word in (line.get("settings") or "").split())
            rows, seeds = (int(line[key]) if line.get(key) else None for key in ("rows", "seeds"))
            value = float(line["value"])
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {number}: {error}.", fix="value is a number, settings are key=value"
            ) from None
        names = line["system"], settings, line["split"] or "", line["metric"]
        found.append(Published(*names, value, rows, seeds, line.get("where") or ""))
    return found


Rule = Callable[[Mapping[str, str], Reference, Sequence[OwnResult]], Judged]
"""Judges a line of claims.csv by the reference's own numbers, or by own results."""


def judge_claims(reference: Reference, own: Sequence[OwnResult]) -> list[tuple[Mapping[str, str], Judged]]:
    """Judge each line of a reference's claims.csv.

    Its columns: ``id``, ``claim``, ``published``, ``where``, ``problem``, ``rule``, ``argument``, ``number`` and
    ``command``, which says how to get the runs that it needs. Rules of every reference: ``score`` (argument: settings
    and ``split/metric``; number), ``own_output`` (argument: what its own output says; number: ``found|claimed``) and
    ``unjudged`` (argument: what a judgement would need). A reference that ships may have more in its ``claims.py``.
    """
    rules: dict[str, Rule] = {"score": _score, "own_output": _own_output, "unjudged": _unjudged}
    if (
        reference.folder.parent == Path(str(files("agnews_exp.reference")))
        and (reference.folder / "claims.py").is_file()
    ):
        from importlib import import_module

        rules |= import_module(f"agnews_exp.reference.{reference.name}.claims").RULES
    found: list[tuple[Mapping[str, str], Judged]] = []
    for line in reference.table("claims"):
        if line["rule"] not in rules:
            raise unknown_name(f"rule of claim {line['id']} in {reference.folder}", line["rule"], sorted(rules))
        found.append((line, rules[line["rule"]](line, reference, own)))
    return found


def _score(line: Mapping[str, str], reference: Reference, own: Sequence[OwnResult]) -> Judged:
    *settings, key = line["argument"].split()
    split, _, metric = key.rpartition("/")
    wanted = dict(word.split("=", 1) for word in settings)
    rows = (reference.source.get("rows") or {}).get(split)
    published = Published(line["claim"], wanted, split, metric, float(line["number"]), rows)
    return reference.judge(published, reference.beside(published, own))


def _own_output(line: Mapping[str, str], _: Reference, own: Sequence[OwnResult]) -> Judged:
    found, claimed = (float(word) for word in line["number"].split("|"))
    return Judged(REPRODUCED if found == claimed else CONTRADICTED, f"By its own output: {line['argument']}.")


def _unjudged(line: Mapping[str, str], _: Reference, own: Sequence[OwnResult]) -> Judged:
    return unjudged(line["argument"])


@dataclass(frozen=True)
class Measure(Result):
    """One published number about a corpus beside the own one."""

    id: str  # its name
    what: str  # its meaning in words
    source: str  # the place in the publication
    published: str  # the published number, list or order
    ours: str  # the own one; empty where the part was left out
    verdict: str  # ``reproduced``, ``contradicted`` or ``cannot be judged with these data``
    reason: str  # how it was compared, or why it was not


def judge_measures(reference: Reference, parts: Mapping[str, Mapping[str, Any]]) -> list[Measure]:
    """Judge a reference's numbers about a corpus by the parts of a finished exploration.

    A line of a reference's ``measures.csv`` has ``id``, ``what``, ``source``, ``published``, ``ours``
    (``part:metric``), ``rule``, ``tolerance``, ``needs`` (a package without which the number is another one) and
    ``reason``. Rules: ``relative`` and ``absolute`` (within the tolerance), ``at_most``, ``order`` (names from high
    to low), ``list`` (this share of the terms is on both lists) and ``none`` (shown, not judged).
    """
    found = []
    for row in reference.table("measures"):
        ours, verdict, how = _judge(row, parts)
        reason = "; ".join(" ".join(part.split()) for part in (how, row["reason"]) if part)
        found.append(Measure(row["id"], row["what"], row["source"], row["published"], ours, verdict, reason))
    return found


def _judge(row: Mapping[str, str], parts: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    """Return the own number in words, the verdict, and how it was reached."""
    name, _, key = row["ours"].partition(":")
    part = parts.get(name)
    if part is None or part.get("status") != "finished":
        return "", UNJUDGED, f"{name}: {(part or {}).get('reason') or 'the part is switched off'}"
    metrics: Mapping[str, Any] = part["metrics"]
    left_out: Mapping[str, str] = part["details"].get("left_out", {})
    missing = left_out.get(row["needs"], "") if row["needs"] else ""
    if row["rule"] == "order":
        ours, verdict, how = _order(row["published"].split(" > "), metrics, key)
    elif row["rule"] == "list":
        ours, verdict, how = _list(row, part["details"]["lists"][key])
    elif metrics.get(key) is None:
        return "", UNJUDGED, "; ".join(left_out.values()) or "it was not computed"
    else:
        ours, verdict, how = _number(row, float(metrics[key]))
    return (ours, UNJUDGED, missing) if missing else (ours, verdict, how)


def _number(row: Mapping[str, str], ours: float) -> tuple[str, str, str]:
    shown = f"{ours:.4g}" if abs(ours) < 100 else f"{ours:.1f}"
    if row["rule"] == "none":
        return shown, UNJUDGED, ""
    theirs = float(row["published"])
    if row["rule"] == "at_most":
        return shown, REPRODUCED if ours <= theirs else CONTRADICTED, "at most"
    tolerance, relative = float(row["tolerance"]), row["rule"] == "relative"
    reach = f"within {tolerance:.0%}" if relative else f"within {tolerance:g}" if tolerance else "exactly"
    holds = abs(ours - theirs) <= (tolerance * abs(theirs) if relative else tolerance) + 1e-12
    return shown, REPRODUCED if holds else CONTRADICTED, reach


def _order(names: list[str], metrics: Mapping[str, Any], prefix: str) -> tuple[str, str, str]:
    keys = {name: prefix + column_key(name, names) for name in names}
    if any(metrics.get(key) is None for key in keys.values()):
        return "", UNJUDGED, "the classes are others"
    ours = sorted(names, key=lambda name: -float(metrics[keys[name]]))
    return " > ".join(ours), REPRODUCED if ours == names else CONTRADICTED, "the same order"


def _list(row: Mapping[str, str], ours: list[str]) -> tuple[str, str, str]:
    theirs = [term.strip() for term in row["published"].split(";")]
    common, wanted = sum(term in ours for term in theirs), float(row["tolerance"])
    verdict = REPRODUCED if common / len(theirs) >= wanted else CONTRADICTED
    return "; ".join(ours), verdict, f"{common} of {len(theirs)} are on both lists; {wanted:.0%} wanted"

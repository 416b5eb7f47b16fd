"""Collecting what a report is made of: the finished runs of a study, or of one data set, and what lies beside them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.reference.reading import Reference
from agnews_exp.report.systems import RESAMPLES, RunNames, StoredRun, System, make_systems, stable_name
from agnews_exp.tracking.record import RunFolder, finished_runs, read_json

log = logging.getLogger(__name__)

STUDIES, SWEEP, BEST = "studies", "sweep.json", "best.json"


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep whose jobs are in the report."""

    path: Path  # its folder
    info: Mapping[str, Any]  # sweep.json
    best: Mapping[str, Any]  # best.json of a search, empty otherwise
    # The runs in the report that answer its jobs, by job number; one may be another sweep's, or answer two.
    jobs: Mapping[int, StoredRun]
    overrides: Mapping[int, Sequence[str]]  # what each job was told, by job number

    @property
    def runs(self) -> tuple[StoredRun, ...]:
        """Its runs, each once, by job number."""
        return tuple(dict.fromkeys(self.jobs.values()))

    @property
    def is_search(self) -> bool:
        """Whether Optuna chose its jobs."""
        return self.info.get("kind") == "search"


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that a report is made of."""

    output_dir: Path  # the project's output root
    name: str  # of a study, or ``all``
    study: Mapping[str, Any]  # study.json, empty where all runs are taken
    runs: tuple[StoredRun, ...]  # finished runs, in an order that does not depend on when they ran
    left_out: tuple[tuple[str, str, str], ...]  # other finished runs: short name, run's name, reason
    sweeps: tuple[Sweep, ...]  # sweeps with jobs among ``runs``
    eda: tuple[Path, ...]  # folders of the audit of the data
    names: RunNames  # what runs are called wherever their folders are named
    # Contents of comparison.json whose runs are all among ``runs``, with their folders.
    comparisons: tuple[tuple[Path, Mapping[str, Any]], ...]
    reference: Reference | None = None  # published results to stand beside, where they were chosen
    notes: list[str] = field(default_factory=list)  # files that could not be read
    others: Mapping[str, int] = field(default_factory=dict)  # runs on other corpora, by the corpora's names

    @cached_property
    def systems(self) -> tuple[System, ...]:
        """Models with a test score, seeds of one model together, best validation macro-F1 first."""
        return make_systems([run for run in self.runs if "test/macro_f1" in run.metrics])

    @cached_property
    def own_metrics(self) -> dict[str, str]:
        """The user's own metrics of these runs: name and title."""
        found = (run.result.get("own_metrics") or {} for run in self.runs)
        return {name: str(entry.get("title") or name) for metrics in found for name, entry in metrics.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the runs."""
        return self.runs[0].class_names

    @cached_property
    def tied(self) -> tuple[System, ...]:
        """The systems that may be the best by macro-F1, the cheapest first.

        They are the confidence set of the best one (95 %, all systems at once) from validation rows, of several seeds
        from those of the lowest; systems that were fitted on validation rows are left out.
        """
        from agnews_exp.evaluation.statistics.bootstrap import joint_bootstrap

        clean = {s.label: s for s in self.systems if not s.fits_on_validation}
        given = {label: found for label, s in clean.items() if (found := s.first.answers("val")) is not None}
        mine = given.get(self.best.label)
        if mine is None:
            return (self.best,)
        labels = {k: a.given.labels for k, a in given.items() if np.array_equal(a.row_ids, mine.row_ids)}
        joint = joint_bootstrap(mine.labels, labels, resamples=RESAMPLES, class_names=self.class_names)
        tied = {self.best, *(clean[label] for label in joint.best_set())}
        return tuple(sorted(tied, key=lambda system: (system.cost, system.label)))

    @property
    def chosen(self) -> System:
        """The cheapest of the systems that validation does not tell from the best."""
        return self.tied[0]

    @property
    def best(self) -> System:
        """The system with the best validation score, of those that fitted nothing on validation rows, if any."""
        clean = [system for system in self.systems if not system.fits_on_validation]
        return (clean or list(self.systems))[0]

    def best_of(self, family: str) -> System | None:
        """Return the best system of a family by its validation score, or None."""
        return next((system for system in self.systems if system.first.family == family), None)

    def with_analysis(self, name: str) -> list[StoredRun]:
        """Return the runs that hold an analysis, best validation score first."""
        found = [run for run in self.runs if run.analysis(name) is not None]
        return sorted(found, key=lambda run: (-run.metrics.get("val/macro_f1", 0.0), run.key))


def collect(
    output_dir: Path, study: str | None, reference: Reference | None = None, data_name: str | None = None
) -> Inputs:
    """Collect the runs of a study, or all that share the most common data identity (of the corpus of that name).

    Raises:
        ConfigError: A study of this name is unknown or malformed, or there is no finished run.
    """
    content = _study(output_dir, study) if study is not None else {}
    names = RunNames(output_dir)
    found = [run for folder in finished_runs(output_dir) if (run := _opened(folder, output_dir, names)) is not None]
    names.add({run.folder.path.name: run.short for run in found})
    everywhere = Counter(run.source for run in found)
    if data_name is not None:
        if data_name not in everywhere:
            raise unknown_name("corpus for --data", data_name, list(everywhere))
        found = [run for run in found if run.source == data_name]
    chosen, left_out = _of_study(found, content) if content else _of_one_data_set(found)
    if not chosen:
        what = f"study '{study}'" if study else str(output_dir)
        raise ConfigError(
            f"There is no finished run in {what} to report on.", fix="python run.py experiment=quickstart"
        )
    chosen.sort(key=lambda run: run.key)
    notes: list[str] = []
    return Inputs(
        output_dir=output_dir,
        name=study or "all",
        study=content,
        runs=tuple(chosen),
        left_out=tuple(sorted(left_out)),
        others={} if content else {name: n for name, n in everywhere.items() if name != chosen[0].source},
        sweeps=tuple(_sweeps(output_dir, chosen, content)),
        eda=tuple(_audits(output_dir, chosen)),
        names=names,
        comparisons=tuple(_comparisons(output_dir, chosen, notes)),
        reference=reference,
        notes=notes,
    )


def _study(output_dir: Path, name: str) -> dict[str, Any]:
    folder = output_dir / STUDIES
    known = sorted(path.parent.name for path in folder.glob("*/study.json"))
    if name not in known:
        raise unknown_name(f"study in {folder}", name, known)
    content = read_json(folder / name / "study.json")
    if content is None or not isinstance(content.get("stages"), list):
        raise ConfigError(f"{folder / name / 'study.json'} is not a study's JSON.", fix=f"agnews study {name}")
    return content


def _opened(folder: RunFolder, output_dir: Path, names: RunNames) -> StoredRun | None:
    result = folder.result()
    if result is None:
        return None
    try:
        return StoredRun(folder, result, stable_name(folder, str(result["fingerprint"]), output_dir), names)
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s is left out: its result.json has no %s", folder.path, error)
        return None


def _of_study(
    runs: Sequence[StoredRun], study: Mapping[str, Any]
) -> tuple[list[StoredRun], list[tuple[str, str, str]]]:
    stages = [stage for stage in study["stages"] if isinstance(stage, dict)]
    names = {str(name) for stage in stages for name in stage.get("runs") or ()}
    names |= {Path(name).name for name in names}
    sweeps = _sweep_names(study)
    chosen, left_out = [], []
    for run in runs:
        place = run.folder.path
        if (place.name in names and place.parent.name == "runs") or place.parent.name in sweeps or run.short in names:
            chosen.append(run)
        else:
            left_out.append((run.short, run.name, "not of this study"))
    checksums = Counter(run.checksum for run in chosen)
    if len(checksums) > 1:
        kept, others = _of_one_data_set(chosen)
        return kept, left_out + others
    return chosen, left_out


def _sweep_names(study: Mapping[str, Any]) -> set[str]:
    stages = (stage for stage in study.get("stages", ()) if isinstance(stage, dict))
    return {Path(str(name)).name for stage in stages for name in stage.get("sweeps") or ()}


def _of_one_data_set(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[tuple[str, str, str]]]:
    """Keep the runs of the most common evaluation rows (of equally common ones, those of the most rows)."""
    if not runs:
        return [], []
    sizes = {run.checksum: sum(run.rows.get(split, 0) for split in ("val", "test")) for run in runs}
    counts = Counter(run.checksum for run in runs)
    common = max(counts, key=lambda c: (counts[c], sizes[c], c))
    kept = [run for run in runs if run.checksum == common]
    reason = "judged on other rows: {} (split seed {})"
    left_out = [
        (run.short, run.name, reason.format(run.source, run.result.get("split_seed")))
        for run in runs
        if run.checksum != common
    ]
    return kept, left_out


def _audits(output_dir: Path, runs: Sequence[StoredRun]) -> Iterator[Path]:
    """Yield the audits of the runs' data; one of another corpus would mislead."""
    checksums = {str(run.result["data"].get("checksum")) for run in runs}
    for path in sorted(output_dir.glob("eda/*/findings.json")):
        found = (read_json(path) or {}).get("data") or {}
        if "checksum" not in found or str(found["checksum"]) in checksums:
            yield path.parent


def _sweeps(output_dir: Path, runs: Sequence[StoredRun], study: Mapping[str, Any]) -> Iterator[Sweep]:
    """Yield the sweeps whose jobs these runs answer; of a study, its own only."""
    known = {run.folder.path.resolve(): run for run in runs}
    own = _sweep_names(study)
    for path in sorted(path.parent for path in output_dir.glob(f"sweeps/*/{SWEEP}")):
        states = {int(p.stem): read_json(p) or {} for p in path.glob("jobs/*.json") if p.stem.isdigit()}
        jobs = {} if study and path.name not in own else _jobs(path, states, known)
        if jobs:
            overrides = {number: state.get("overrides") or () for number, state in states.items()}
            yield Sweep(path, read_json(path / SWEEP) or {}, read_json(path / BEST) or {}, jobs, overrides)


def _jobs(
    sweep: Path, states: Mapping[int, Mapping[str, Any]], known: Mapping[Path, StoredRun]
) -> dict[int, StoredRun]:
    """Return the runs of a sweep's jobs by number; a job that had been done before names another folder's run."""
    places = {int(path.name): path for path in sweep.iterdir() if path.name.isdigit()}
    places |= {number: sweep / str(state["run"]) for number, state in states.items() if state.get("run")}
    found = {number: known.get(path.resolve()) for number, path in sorted(places.items())}
    return {number: run for number, run in found.items() if run is not None}


def _comparisons(
    output_dir: Path, runs: Sequence[StoredRun], notes: list[str]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    known = {run.folder.path.name: run for run in runs} | {_place(run.folder.path): run for run in runs}
    paths = [*output_dir.glob("comparisons/*/comparison.json"), *output_dir.glob("studies/*/**/comparison.json")]
    for path in sorted(paths):
        content = read_json(path)
        if content is None or not {"split", "n_items", "runs", "pairs"} <= set(content):
            notes.append(f"{path.relative_to(output_dir)} is not a comparison's JSON and was left out.")
            continue
        if all(_place(Path(folder)) in known for folder in content["runs"].values()):
            yield path, content


def _place(path: Path) -> str:
    """Return a folder's name with its parent's, which tells the jobs of two sweeps apart, wherever the root moved."""
    return f"{path.parent.name}/{path.name}"

"""The package from Python and in notebooks: ``import agnews_exp as ag``, then ``ag.run([...])``.

Everything is composed, checked and refused as on the command line; an override is the same text.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp import rivals
from agnews_exp.compare.comparison import Comparison as Results
from agnews_exp.compare.comparison import compare_runs, load_comparable
from agnews_exp.compare.findings import comparison_findings
from agnews_exp.compare.leaderboard import matches
from agnews_exp.config.compose import compose_config, extra_folders, new_run_id
from agnews_exp.config.validation import to_plain
from agnews_exp.core.errors import AgnewsError, ConfigError, StorageError
from agnews_exp.evaluation.tasks import task_of
from agnews_exp.experiment import Outcome, execute
from agnews_exp.sweeps.state import SweepFolder, best_job, find_sweep
from agnews_exp.tracking.runs import Run, find
from agnews_exp.tracking.runs import runs as finished

if TYPE_CHECKING:
    import pandas

    from agnews_exp.analyses.findings import Findings

__all__ = ["Comparison", "Run", "Sweep", "compare", "evaluate", "find_run", "report", "rows", "run", "runs", "sweep"]


def run(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> Run:
    """Train, judge and record one configuration; a run that has finished already is returned as it is.

    Args:
        overrides: As on the command line: ``["model=logreg", "model.C=10", "data=sample"]``.
        config_dir: A configuration folder of your own.

    Raises:
        AgnewsError: The configuration or the data are wrong, or storage gave out.
    """
    config = compose_config(_words(overrides), extra=_folders(config_dir))
    folder = Path(to_plain(config)["paths"]["output_dir"]) / "runs" / new_run_id()
    folder.mkdir(parents=True)
    return _told(execute(config, folder))


def _words(overrides: Sequence[str]) -> list[str]:
    if isinstance(overrides, str):
        raise ConfigError("The overrides are one text.", fix=f"a list of texts: {overrides.split()}")
    return list(overrides)


def _folders(config_dir: str | Path | None) -> list[Path]:
    return extra_folders([f"--config-dir={config_dir}"]) if config_dir is not None else []


def _told(outcome: Outcome) -> Run:
    if outcome.warning:
        warnings.warn(outcome.warning, stacklevel=3)
    return Run(outcome.folder)


def _plain() -> dict[str, Any]:
    return to_plain(compose_config([]))


def find_run(word: str | Run) -> Run:
    """Return the finished run that a word means: a name, ``latest``, ``sweep/12``, a folder, an MLflow id.

    Raises:
        ConfigError: It means no finished run, or several, which are listed.
    """
    return word if isinstance(word, Run) else find(_plain(), word)


def runs(query: str | Sequence[str] | None = None, *, test: bool = False) -> pandas.DataFrame:
    """Return the finished runs as a table, those that ended first standing first.

    Args:
        query: ``model=logreg`` or several such conditions, as for ``agnews top --filter``; or an MLflow filter, such as
            ``params.model = 'logreg'``. None takes all.
        test: Also the test metrics. Whoever chooses by them has no test left.

    Raises:
        ConfigError: A condition is malformed, or MLflow cannot read the filter.
    """
    import pandas

    conditions = [query] if isinstance(query, str) else list(query or ())
    filters = [word for word in conditions if "metrics." in word or "params." in word or "tags." in word]
    known = finished(_plain(), " and ".join(filters) or None)
    pairs = [word for word in conditions if word not in filters]
    table = [_line(one, test) for one in known if matches(one.record, one.result, pairs)]
    return pandas.DataFrame(table, columns=None if table else ["name", "model", "features"])


def _line(one: Run, test: bool) -> dict[str, Any]:
    keys = ("model", "features", "data_fraction", "seed", "split_seed", "fingerprint")
    metrics = {name: value for name, value in one.result["metrics"].items() if test or not name.startswith("test/")}
    facts = {key: one.result.get(key) for key in keys} | {"data": one.result["data"]["name"]}
    return {"name": one.name} | facts | metrics | {"ended": one.when, "folder": str(one.folder)}


def rows(data: Sequence[str] | str | Run = ()) -> pandas.DataFrame:
    """Return the rows that all runs share: split (``train``, ``val``, ``test``), row_id, text and label.

    Args:
        data: Overrides such as ``["data=csv", "data.train_file=my.csv"]``, or a run whose rows they are (or its name).

    Raises:
        AgnewsError: The data cannot be read.
    """
    import pandas

    splits, parts = rivals.questions(_same_rows(data))
    tables = [
        pandas.DataFrame(
            {
                "split": split,
                "row_id": part.row_ids,
                "text": part.texts,
                "label": task_of(part.labels).names(part.labels, splits.class_names),
            }
        )
        for split, part in parts.items()
    ]
    return pandas.concat(tables, ignore_index=True)


def _same_rows(data: Sequence[str] | str | Run, name: str = "answers") -> Any:
    if isinstance(data, str | Run):
        return rivals.same_rows([], str(data.folder) if isinstance(data, Run) else data, name)
    return rivals.same_rows(_words(data), name=name)


def evaluate(system: Any, data: Sequence[str] | str | Run = (), *, name: str) -> Run:
    """Judge a model that was trained elsewhere on the same validation and test rows, and record it as a run.

    Args:
        system: A fitted estimator with ``predict_proba`` or ``predict``; a function from a list of n texts to
            probabilities, shape (n, K), columns in sorted order of the classes, or to n class names; or the path of a
            file of answers.
        data: Overrides that name the data, or a run whose rows are answered (or its name); none takes the latest run's.
        name: Its name in all tables.

    Raises:
        AgnewsError: The data or the answers are wrong.
    """
    ask = rivals.AnswersFile(Path(system)) if isinstance(system, str | Path) else rivals.ask_system(system)
    return _told(rivals.evaluate(_same_rows(data, name), ask))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Paired statistics of several runs on the same rows.

    Attributes:
        verdict: What they come to, in a sentence.
        findings: All tables, charts and notes.
        results: The numbers.
    """

    verdict: str
    findings: Findings
    results: Results

    def __repr__(self) -> str:
        return self.verdict

    def _repr_html_(self) -> str:
        """Return verdicts and tables as HTML, for a notebook."""
        from agnews_exp.analyses.findings import Table, Text, to_html

        return to_html([block for block in self.findings.blocks if isinstance(block, Table | Text)])


def compare(
    *which: str | Run,
    split: str = "test",
    metrics: Sequence[str] = (),
    against: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Say whether runs differ, by how much, and what difference these rows could show.

    Args:
        which: Two or more runs, or their names.
        split: ``test``, ``val`` or ``cv``.
        metrics: What is compared; none given, the runs' primary metric, macro-F1 and accuracy.
        against: The name of the one that all others are compared with; None compares every pair.
        resamples: Of the bootstrap and the randomisation tests.
        seed: Of both.

    Raises:
        ConfigError: A run is not found, or they were judged on different rows.
    """
    compared = load_comparable([find_run(one).record for one in which], split)
    found = compare_runs(compared, metrics=metrics, resamples=resamples, seed=seed, against=against)
    findings = comparison_findings(found, compared)
    return Comparison(findings.headline, findings, found)


def report(
    study: str | None = None,
    *,
    output: str | Path | None = None,
    reference: str | None = None,
    data: str | None = None,
) -> Path:
    """Write one page about the stored runs, and return its path.

    Args:
        study: A study's name; None reports on all runs of one data set.
        output: The folder; None takes ``outputs/reports/<name of study or data, or all>``.
        reference: Published results to stand beside the runs.
        data: The name of one of several corpora; None takes that of the most runs.

    Raises:
        ConfigError: There is nothing to report on.
    """
    from agnews_exp.reference.reading import find_reference
    from agnews_exp.report.build import build_report

    paths = {key: Path(value) for key, value in _plain()["paths"].items()}
    folder = Path(output) if output is not None else paths["output_dir"] / "reports" / (study or data or "all")
    date = f"Made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    beside = find_reference(reference, paths["root_dir"]) if reference else None
    build_report(paths["output_dir"], study, folder, date, reference=beside, data_name=data)
    return folder / "report.html"


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep that has ended.

    Attributes:
        folder: Its folder, with a table of its jobs.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Its name, as ``agnews sweeps list`` shows it."""
        return self.folder.name

    @property
    def runs(self) -> list[Run]:
        """The runs of its finished jobs, in the order of the jobs."""
        states = [state for state in SweepFolder(self.folder).states() if state.status == "finished"]
        return [find_run(f"{self.name}/{state.num}") for state in states]

    @property
    def best(self) -> Run:
        """The run of the best job.

        Raises:
            ConfigError: No job has finished, or there are several goals.
        """
        folder = SweepFolder(self.folder)
        state = best_job(folder, folder.states())
        if state is None:
            raise ConfigError(f"The sweep '{self.name}' has no single best job.", fix=f"agnews sweeps show {self.name}")
        return find_run(f"{self.name}/{state.num}")

    def table(self) -> pandas.DataFrame:
        """Return its finished runs as :func:`runs` does."""
        import pandas

        return pandas.DataFrame([_line(one, test=False) for one in self.runs])


def sweep(overrides: Sequence[str], *, name: str | None = None, config_dir: str | Path | None = None) -> Sweep:
    """Run every combination of the choices, each in a process of its own; the same call again runs what is missing.

    Args:
        overrides: As on the command line after ``-m``: ``["model=logreg,linear_svc", "seed=1,2,3"]``.
        name: The sweep's name; None makes one of the overrides.
        config_dir: A configuration folder of your own.

    Raises:
        AgnewsError: The sweep cannot begin, or it failed.
    """
    words = _words(overrides)
    name = name or f"sweep-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}"
    own = [f"--config-dir={folder}" for folder in _folders(config_dir)]
    command = [sys.executable, "-m", "agnews_exp.cli", "run", "-m", *own, *words, f"sweep.name={name}"]
    package = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    last: list[str] = []
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
            last = [*last[-20:], line]
    if process.returncode:
        said = "".join(last).rpartition("error: ")[2].strip()
        kind = {2: ConfigError, 3: StorageError}.get(process.returncode, AgnewsError)
        message, _, fix = said.partition("\n  fix: ")
        raise kind(message or f"The sweep '{name}' ended with exit code {process.returncode}.", fix=fix or None)
    return Sweep(find_sweep(Path(_plain()["paths"]["output_dir"]) / "sweeps", name).path)

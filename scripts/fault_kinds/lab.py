"""Where faults are tried out: the commands, what they must come to undisturbed, and the register of faults."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from agnews_exp.config.compose import quoted
from fault_kinds.projects import REPO, Project
from fault_kinds.verdicts import Answers, Done, Outcome, Verdict, read_answers


def _quoted(grid: str) -> str:
    """Return the words of a stage of a study that sweeps over a grid with the lightest runs, quoted for Hydra."""
    light = "features: word_tfidf, features.blocks.word.max_features: '1000', evaluation.latency_repeats: '0'"
    grids = f'"hydra.sweeper.grids=[{{model: multinomial_nb, {grid}, {light}}}]"'
    return quoted(f"evaluation.folds=2 {grids} tracking.log_model=false")


LIGHT = (
    "data=sample", "model=multinomial_nb", "features=word_tfidf", "features.blocks.word.max_features=1000",
    "evaluation.latency_repeats=0", "tracking.log_model=false",
)  # fmt: skip
UNTRACKED = "tracking=none"
SWEEP = ("-m", *LIGHT, "sweep.name=faults", "model.alpha=0.5,1,2")
SEARCH = (
    "-m", *LIGHT, "sweep.name=search", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.plots=false",
    "model.alpha=interval(0.1,2)",
)  # fmt: skip
FOREST = (
    "-m", "data=sample", "model=random_forest_100", "model.n_estimators=200", "model.max_depth=20,21",
    "features=augmented_tfidf", "evaluation.latency_repeats=0", "tracking.log_model=false", "sweep.name=forest",
    "trainer.n_jobs=1",
)  # fmt: skip
"""Jobs whose features and training take long enough to be hit; one thread, since a forest adds up its trees' answers in
the order in which its threads end."""

_STAGES = {"classical": "model.alpha: '0.5,1'", "more": "model.alpha: '2'"}
_ALL_STAGES = [str(name) for name in OmegaConf.load(REPO / "conf/study/full.yaml").stages]
STUDY = (
    "agnews", "study", "fast", "study.name=faults", "study.jobs=1",
    f"study.leave_out=[{','.join(name for name in _ALL_STAGES if name not in _STAGES)}]",
    *(f"study.options.{stage}={_quoted(grid)}" for stage, grid in _STAGES.items()),
)  # fmt: skip
COMMANDS: Mapping[str, tuple[Sequence[str], int]] = {
    "run": (LIGHT, 1), "sweep": (SWEEP, 3), "search": (SEARCH, 4), "study": (STUDY, 3), "forest": (FOREST, 2),
}  # fmt: skip
"""Words of each reference command, and how many finished records it leaves."""


@dataclass
class Lab:
    """What the faults of a campaign share.

    Attributes:
        root: Folder of the campaign.
        times: How often each fault is tried.
        kills: How many kills each command gets; as often as the other faults unless it is given.
        seed: Makes every random choice.
        timeout: Seconds after which a command counts as hanging.
    """

    root: Path
    times: int = 5
    kills: int = 0
    seed: int = 0
    timeout: float = 300.0
    _references: dict[str, tuple[Answers, float]] = field(default_factory=dict)
    _template: Path | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _count: int = 0

    def __post_init__(self) -> None:
        """Fill in the number of kills."""
        self.kills = self.kills or self.times

    def chance(self, fault: str) -> random.Random:
        """Return a fault's own source of random choices."""
        return random.Random(f"{self.seed} {fault}")  # noqa: S311

    def project(self, name: str, *, store: bool = False, like: Path | None = None) -> Project:
        """Make a project.

        Args:
            name: Part of its folder's name.
            store: Whether it has an MLflow store already.
            like: Project to copy instead.
        """
        with self._lock:
            self._count += 1
            root = self.root / f"{self._count:03d}-{name}"
        source = like or (self._store_template() if store else None)
        if source is None:
            root.mkdir(parents=True)
        else:
            shutil.copytree(source, root)
        return Project(root, self.timeout)

    def _store_template(self) -> Path:
        with self._lock:
            if self._template is None:
                project = self.project("store")
                self._must(project.run(["agnews", "sync"]))
                self._template = project.root
            return self._template

    def reference(self, kind: str) -> Answers:
        """Return the answers of an undisturbed command, by fingerprint."""
        return self._reference(kind)[0]

    def seconds(self, kind: str) -> float:
        """Return how long an undisturbed command took here."""
        return self._reference(kind)[1]

    def finished(self, kind: str, name: str) -> Project:
        """Return a copy of the project in which an undisturbed command has finished, without MLflow."""
        self.reference(kind)
        return self.project(name, like=self.root / f"reference-{kind}")

    def _reference(self, kind: str) -> tuple[Answers, float]:
        with self._lock:
            if kind not in self._references:
                words, needed = COMMANDS[kind]
                root = self.root / f"reference-{kind}"
                root.mkdir(parents=True)
                project = Project(root, max(self.timeout, 600))
                done = self._must(project.run([*words, UNTRACKED]))
                answers = {fingerprint: answer for _, fingerprint, answer in read_answers(project.outputs)}
                if len(answers) != needed:
                    raise RuntimeError(f"the undisturbed {kind} left {len(answers)} of {needed} records")
                self._references[kind] = answers, done.seconds
            return self._references[kind]

    def _must(self, done: Done) -> Done:
        if done.code != 0:
            raise RuntimeError(f"an undisturbed command failed:\n{done.output}")
        return done


Fault = Callable[[Lab], list[Verdict]]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Register a function as the fault of that name."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


def skipped(reason: str) -> list[Verdict]:
    """Return the verdict on a fault that this machine cannot produce."""
    return [Verdict(Outcome.SKIPPED, reason)]


def can_mount() -> bool:
    """Return whether this user may mount file systems in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0

"""Where faults are tried out: projects of their own, commands that may be disturbed, and a judge of what came of it."""

from __future__ import annotations

import enum
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agnews_exp.tracking import record

REPO = Path(__file__).resolve().parents[2]
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
COMMANDS: Mapping[str, tuple[Sequence[str], int]] = {"run": (LIGHT, 1), "sweep": (SWEEP, 3), "search": (SEARCH, 4)}
"""Words of each reference command, and how many finished records it leaves."""

TRACEBACK = "Traceback (most recent call last)"
_LEFT_SECONDS = 30
_LAST_WORDS = ("cannot allocate memory for thread-local data: ABORT",)
"""What the C library says when it ends a process itself; nothing in Python hears of it."""


class Outcome(enum.Enum):
    """What a fault came to; the order is that of the table."""

    RIGHT = "right result"
    CLEAR = "clear error"
    WRONG = "wrong number"
    HANG = "hang"
    TRACEBACK = "bare traceback"
    LOST = "lost work"
    SKIPPED = "skipped"

    @property
    def bad(self) -> bool:
        """Whether the campaign fails by it."""
        return self in (Outcome.WRONG, Outcome.HANG, Outcome.TRACEBACK, Outcome.LOST)


@dataclass(frozen=True)
class Verdict:
    """An outcome and what there is to say about it."""

    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: Exit code; None when it was still running at the timeout.
        output: Standard output and standard error.
        seconds: Wall time.
    """

    code: int | None
    output: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a run must come to: its scores and its predictions' bytes."""

    scores: Mapping[str, float]
    predictions: str


Answers = Mapping[str, Answer]


def answer_of(run: record.RunFolder, result: Mapping[str, object]) -> Answer:
    """Return what a finished run says, without what differs from run to run (times, memory)."""
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    scores = {k: float(v) for k, v in metrics.items() if k.startswith(("train/", "val/", "test/"))}
    predictions = run.path / record.PREDICTIONS
    digest = hashlib.sha256(predictions.read_bytes()).hexdigest() if predictions.is_file() else "missing"
    return Answer(scores, digest)


def read_answers(output_dir: Path) -> list[tuple[str, str, Answer]]:
    """Return (folder, fingerprint, answer) of every record that counts as finished."""
    found = []
    for run in record.finished_runs(output_dir):
        result = run.result()
        if result is not None:
            name = run.path.relative_to(output_dir).as_posix()
            found.append((name, str(result["fingerprint"]), answer_of(run, result)))
    return found


def judge(
    output_dir: Path, done: Done, expected: Answers, needed: int, before: Sequence[str] = (), *, may_fail: bool = True
) -> Verdict:
    """Classify what a disturbed command has left.

    Args:
        output_dir: The project's outputs.
        done: The command's end.
        expected: Answers of undisturbed runs, by fingerprint.
        needed: How many different finished records a command that succeeds must leave.
        before: Folders of records that had finished before; they must be there still.
        may_fail: Whether a clear error is a good end (not when the fault is over).
    """
    if done.code is None:
        return Verdict(Outcome.HANG, f"no end within {done.seconds:.0f} s: {_last_line(done.output)}")
    answers = read_answers(output_dir)
    for name, fingerprint, answer in answers:
        if fingerprint not in expected:
            return Verdict(Outcome.WRONG, f"{name} is of another configuration: {fingerprint}")
        if answer != expected[fingerprint]:
            return Verdict(Outcome.WRONG, f"{name} says other numbers than the undisturbed run")
    if missing := set(before) - {name for name, _, _ in answers}:
        return Verdict(Outcome.LOST, f"no longer finished: {', '.join(sorted(missing))}")
    if TRACEBACK in done.output:
        return Verdict(Outcome.TRACEBACK, _last_line(done.output))
    if done.code != 0:
        if not any(sign in done.output for sign in ("error: ", *_LAST_WORDS)):
            return Verdict(Outcome.TRACEBACK, f"exit code {done.code} without a message: {_last_line(done.output)}")
        return Verdict(Outcome.CLEAR if may_fail else Outcome.LOST, _error_line(done.output))
    if (distinct := len({fingerprint for _, fingerprint, _ in answers})) < needed:
        return Verdict(Outcome.LOST, f"exit code 0, but {distinct} of {needed} records")
    return Verdict(Outcome.RIGHT)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1][:160]


def _error_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.startswith("error: ")), _last_line(text))[:160]


@dataclass(frozen=True)
class Project:
    """An empty project root; commands run against it as a user's would."""

    root: Path
    timeout: float

    @property
    def outputs(self) -> Path:
        """Its outputs folder."""
        return self.root / "outputs"

    @property
    def store(self) -> Path:
        """Its MLflow database."""
        return self.root / "mlruns" / "mlflow.db"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command: nothing of the caller's tracking or data settings."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AGNEWS_", "HYDRA_"))}
        return {**keep, "AGNEWS_ROOT": str(self.root), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **(extra or {})}

    def start(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        limits: Mapping[int, int] | None = None,
        prepare: str | None = None,
        log: str = "log.txt",
    ) -> subprocess.Popen[bytes]:
        """Start ``python run.py`` (or, with words that begin with ``agnews``, that command).

        Args:
            words: Its words.
            env: More environment.
            limits: Resource limits, such as ``{resource.RLIMIT_NOFILE: 64}``.
            prepare: Shell commands to do before it, in a mount namespace of its own.
            log: File in the project's root that its output goes to.
        """
        program = ["-m", "agnews_exp.cli", *words[1:]] if words[0] == "agnews" else [str(REPO / "run.py"), *words]
        command = [sys.executable, *program]
        if prepare is not None:
            command = ["unshare", "-m", "sh", "-c", f'set -e; {prepare}; exec "$@"', "sh", *command]

        def limit() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            for which, value in (limits or {}).items():
                resource.setrlimit(which, (value, value))

        with (self.root / log).open("wb") as file:
            return subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.root,
                env=self.environment(env), start_new_session=True, preexec_fn=limit,
            )  # fmt: skip

    def wait(self, process: subprocess.Popen[bytes], *, timeout: float | None = None, log: str = "log.txt") -> Done:
        """Wait for a started command's end; what runs longer than the timeout is killed."""
        began = time.monotonic()
        code: int | None
        try:
            code = process.wait(timeout or self.timeout)
        except subprocess.TimeoutExpired:
            code = None
            self.kill_all()
            process.wait()
        return Done(code, (self.root / log).read_text(errors="replace"), time.monotonic() - began)

    def run(self, words: Sequence[str], *, timeout: float | None = None, **options: object) -> Done:
        """Run a command to its end; see :meth:`start`."""
        return self.wait(self.start(words, **options), timeout=timeout)  # type: ignore[arg-type]

    def processes(self) -> list[psutil.Process]:
        """Return the processes that work on this project."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("AGNEWS_ROOT") == str(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def kill_all(self) -> None:
        """Kill every process of the project."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue

    def left_running(self) -> str | None:
        """Name a process that is still there half a minute after its command; None when all have gone."""
        deadline = time.monotonic() + _LEFT_SECONDS
        while left := self.processes():
            if time.monotonic() > deadline:
                self.kill_all()
                return f"process {left[0].pid} was left running"
            time.sleep(0.2)
        return None


@dataclass
class Lab:
    """What the faults of a campaign share.

    Attributes:
        root: Folder of the campaign.
        times: How often each fault is tried.
        seed: Makes every random choice.
        timeout: Seconds after which a command counts as hanging.
    """

    root: Path
    times: int = 5
    seed: int = 0
    timeout: float = 300.0
    _references: dict[str, tuple[Answers, float]] = field(default_factory=dict)
    _template: Path | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _count: int = 0

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

"""Disks that are full or read-only, and files that are cut short or have a bit flipped."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from agnews_exp.core.errors import AgnewsError, StorageError
from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking import record
from fault_kinds.lab import LIGHT, SEARCH, SWEEP, UNTRACKED, Lab, can_mount, fault, skipped
from fault_kinds.projects import Project
from fault_kinds.verdicts import Outcome, Verdict, judge, read_answers

_NO_MOUNT = "this user may not mount file systems"
_DISK_POINTS = 10
_READS = 10
_TEXTS = ["Shares fell as oil prices rose", "The striker scored twice in the final"]

Damage = Callable[[Path, random.Random], None]


def flip(path: Path, chance: random.Random) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


def truncate(path: Path, chance: random.Random) -> None:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def _damages(count: int) -> Iterator[Damage]:
    for number in range(count):
        yield flip if number % 2 == 0 else truncate


# ---------------------------------------------------------------- disks


@fault("disk-full")
def disk_full(lab: Lab) -> list[Verdict]:
    """A run on a disk that fills up at different moments."""
    if not can_mount():
        return skipped(_NO_MOUNT)
    verdicts = []
    points = np.geomspace(4, 1500, max(1, round(_DISK_POINTS * lab.times / 5)))
    for free_kb in points:
        project = lab.project("disk-full", store=True)
        kept = project.root.with_name(f"{project.root.name}-disk")
        shutil.copytree(project.root, kept)
        # The disk is seen by the run alone; the log is on the other side, and what the run left is copied there, too.
        mount = (
            f"mount -t tmpfs -o size=16m none {project.root}; cp -a {kept}/. {project.root}/; cd {project.root}; "
            f"free=$(df -k --output=avail . | tail -1); "
            f"head -c $(( (free - {int(free_kb)}) * 1024 )) /dev/zero > filler; "
            f'set +e; "$@"; code=$?; rm -rf filler {kept}; cp -a {project.root}/. {kept}; exit $code'
        )
        done = project.run(LIGHT, prepare=mount)
        verdict = judge(kept / "outputs", done, lab.reference("run"), 1)
        verdicts.append(Verdict(verdict.outcome, f"{free_kb:.0f} KB free: {verdict.note}"))
    return verdicts


def _read_only(lab: Lab, folder: str) -> list[Verdict]:
    if not can_mount():
        return skipped(_NO_MOUNT)
    project = lab.project(f"read-only-{Path(folder).name}", store=True)
    place = project.root / folder
    place.mkdir(parents=True, exist_ok=True)
    prepare = f"mount --bind {place} {place}; mount -o remount,ro,bind {place}"
    return [judge(project.outputs, project.run(LIGHT, prepare=prepare), lab.reference("run"), 1)]


@fault("read-only-outputs")
def read_only_outputs(lab: Lab) -> list[Verdict]:
    """The outputs cannot be written."""
    return _read_only(lab, "outputs")


@fault("read-only-mlruns")
def read_only_mlruns(lab: Lab) -> list[Verdict]:
    """MLflow's folder cannot be written."""
    return _read_only(lab, "mlruns")


@fault("read-only-cache")
def read_only_cache(lab: Lab) -> list[Verdict]:
    """The cache cannot be written."""
    return _read_only(lab, "outputs/cache")


# ---------------------------------------------------------------- files that a command reads


def _damaged_then(
    lab: Lab, kind: str, name: str, patterns: Sequence[str], words: Sequence[str], needed: int, *, store: bool = False
) -> list[Verdict]:
    """Damage a file of a finished project, then run a command there.

    Args:
        lab: The lab.
        kind: Reference command whose project it is.
        name: The fault's name.
        patterns: Globs, relative to the project, of the files among which one is drawn.
        words: The command.
        needed: How many finished records there must be if it succeeds.
        store: Whether the project needs an MLflow store.
    """
    chance, verdicts = lab.chance(name), []
    for damage in _damages(lab.times):
        project = lab.finished(kind, name)
        if store:
            template = lab.project(f"{name}-store", store=True)
            shutil.copytree(template.root / "mlruns", project.root / "mlruns", dirs_exist_ok=True)
        files = sorted(p for pattern in patterns for p in project.root.glob(pattern) if p.stat().st_size)
        if not files:
            return skipped(f"no file matches {patterns}")
        path = chance.choice(files)
        run = path if (path / record.STATUS).exists() else path.parent
        owner = run.relative_to(project.outputs).as_posix() if run.is_relative_to(project.outputs) else ""
        before = [n for n, _, _ in read_answers(project.outputs) if n != owner]
        damage(path, chance)
        verdict = judge(project.outputs, project.run(words), lab.reference(kind), needed, before)
        verdicts.append(Verdict(verdict.outcome, f"{damage.__name__} {path.relative_to(project.root)}: {verdict.note}"))
    return verdicts


@fault("damaged-cache")
def damaged_cache(lab: Lab) -> list[Verdict]:
    """A cache entry is damaged; the run that uses it must not notice."""
    words = [*LIGHT, UNTRACKED, "force=true"]
    return _damaged_then(lab, "run", "damaged-cache", ["outputs/cache/features/*/*/*"], words, 1)


@fault("damaged-record")
def damaged_record(lab: Lab) -> list[Verdict]:
    """A file of a finished record is damaged; the same command must skip to the truth or train again."""
    patterns = ["outputs/runs/*/*.json", "outputs/runs/*/config.yaml", "outputs/index/*.json"]
    return _damaged_then(lab, "run", "damaged-record", patterns, [*LIGHT, UNTRACKED], 1)


@fault("damaged-sweep")
def damaged_sweep(lab: Lab) -> list[Verdict]:
    """A state file of a finished sweep is damaged; the same command must complete it."""
    patterns = ["outputs/sweeps/*/sweep.json", "outputs/sweeps/*/jobs/*.json"]
    return _damaged_then(lab, "sweep", "damaged-sweep", patterns, [*SWEEP, UNTRACKED], 3)


@fault("damaged-search")
def damaged_search(lab: Lab) -> list[Verdict]:
    """Optuna's database is damaged; the search says so or goes on."""
    words = [*SEARCH, UNTRACKED]
    return _damaged_then(lab, "search", "damaged-search", ["outputs/optuna/*.db"], words, 4)


@fault("damaged-store")
def damaged_store(lab: Lab) -> list[Verdict]:
    """MLflow's database is damaged; a run's record must not suffer."""
    words = [*LIGHT, "force=true"]
    return _damaged_then(lab, "run", "damaged-store", ["mlruns/mlflow.db"], words, 1, store=True)


@fault("damaged-store-sync")
def damaged_store_sync(lab: Lab) -> list[Verdict]:
    """MLflow's database is damaged; `agnews sync` says so."""
    return _damaged_then(lab, "run", "damaged-store-sync", ["mlruns/mlflow.db"], ["agnews", "sync"], 1, store=True)


# ---------------------------------------------------------------- files, as every command reads them


def _damaged_read(
    lab: Lab, name: str, project: Project, files: Sequence[Path], read: Callable[[], str]
) -> list[Verdict]:
    """Damage files one after the other and read them: the same content or a clear error, nothing else."""
    chance, verdicts, truth = lab.chance(name), [], read()
    for damage in _damages(_READS * lab.times):
        path = chance.choice(files)
        content = path.read_bytes()
        damage(path, chance)
        what = f"{damage.__name__} {path.relative_to(project.root)}"
        try:
            outcome = Outcome.RIGHT if read() == truth else Outcome.WRONG
            verdicts.append(Verdict(outcome, what))
        except AgnewsError as error:
            verdicts.append(Verdict(Outcome.CLEAR, f"{what}: {error.message}"))
        except Exception as error:
            verdicts.append(Verdict(Outcome.TRACEBACK, f"{what}: {type(error).__name__}: {error}"))
        finally:
            path.write_bytes(content)
    return verdicts


def _only_run(project: Project) -> record.RunFolder:
    (run,) = record.finished_runs(project.outputs)
    return run


@fault("damaged-result-read")
def damaged_result_read(lab: Lab) -> list[Verdict]:
    """Reading result.json (top, compare, report, cascade)."""
    project = lab.finished("run", "damaged-result-read")
    run = _only_run(project)
    return _damaged_read(
        lab, "damaged-result-read", project, [run.path / record.RESULT], lambda: repr(run.needed_result())
    )


@fault("damaged-predictions-read")
def damaged_predictions_read(lab: Lab) -> list[Verdict]:
    """Reading predictions.parquet (compare, diff, report)."""
    from agnews_exp.evaluation.stored_answers import read_table

    project = lab.finished("run", "damaged-predictions-read")
    path = _only_run(project).path / record.PREDICTIONS
    return _damaged_read(lab, "damaged-predictions-read", project, [path], lambda: repr(read_table(path).to_pydict()))


@fault("damaged-model-read")
def damaged_model_read(lab: Lab) -> list[Verdict]:
    """Loading a model folder and answering texts with it (predict, serve, explain)."""
    from agnews_exp.models.loading import load_model

    project = lab.finished("run", "damaged-model-read")
    folder = _only_run(project).path / record.MODEL
    files = sorted(p for p in folder.rglob("*") if p.is_file())

    def answers() -> str:
        model = load_model(folder)
        predictions = model.predict(_TEXTS)
        return repr((model.class_names, predictions.labels.tolist(), np.asarray(predictions.probabilities).tolist()))

    return _damaged_read(lab, "damaged-model-read", project, files, answers)


@fault("damaged-checkpoint-read")
def damaged_checkpoint_read(lab: Lab) -> list[Verdict]:
    """Reading the state and the best weights that an interrupted training goes on from."""
    import torch

    from agnews_exp.runners.callbacks import CheckpointFolder, SafeCheckpointIO

    project = lab.project("damaged-checkpoint-read")
    folder, io = CheckpointFolder(project.root, "0"), SafeCheckpointIO()
    folder.path.mkdir()
    weights = {"w": torch.arange(4000.0).reshape(40, 100), "b": torch.ones(100)}
    io.save_checkpoint({"epoch": 1, "state_dict": weights}, folder.last)
    folder.save_best(weights, np.arange(400, dtype=np.float32).reshape(-1, 4))

    def content() -> str:
        state, best = io.load_checkpoint(folder.last), folder.best()
        assert best is not None
        tensors = [state["state_dict"]["w"], state["state_dict"]["b"], best[0]["w"], best[0]["b"]]
        return repr((state["epoch"], [t.tolist() for t in tensors], best[1]))

    files = [p for p in folder.path.iterdir() if p.suffix in (".ckpt", ".safetensors", ".npy")]
    return _damaged_read(lab, "damaged-checkpoint-read", project, files, content)


@fault("damaged-states-read")
def damaged_states_read(lab: Lab) -> list[Verdict]:
    """Reading a sweep's states: a job whose state or record is damaged is not done, and all others are."""
    project = lab.finished("sweep", "damaged-states-read")
    (path,) = (project.outputs / "sweeps").iterdir()
    folder = SweepFolder(path)
    truth = _settled(folder)
    states = [path / "jobs" / f"{num}.json" for num, _ in truth] + [path / f"{num}" / "result.json" for num, _ in truth]

    def read() -> str:
        found = _settled(folder)
        if found != truth and len(found) >= len(truth) - 1 and set(found) < set(truth):
            raise StorageError("a job is to be done again")
        return repr(found)

    return _damaged_read(lab, "damaged-states-read", project, states, read)


def _settled(folder: SweepFolder) -> list[tuple[int, float | None]]:
    return [(state.num, state.objective) for state in folder.states() if folder.is_settled(state)]

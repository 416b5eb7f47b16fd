"""The file of a study: which commands have ended, how, and the runs, sweeps and folders that they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agnews_exp import __version__
from agnews_exp.core.paths import check_file_name
from agnews_exp.study.settings import AskedStudy, Status
from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking import record

STUDIES, STUDY = "studies", "study.json"
FORMAT = 1
_DONE = ("finished", "failed", "left_out")


class StudyFile:
    """A study's file, in memory as it is on the disk."""

    def __init__(self, output_dir: Path, name: str) -> None:
        check_file_name("study.name", name, [path.name for path in (output_dir / STUDIES).glob("*")])
        self.output_dir = output_dir
        self.folder = output_dir / STUDIES / name
        self.reload()

    def reload(self) -> None:
        """Read the file (again)."""
        content = record.read_json(self.folder / STUDY) or {}
        self._content = content if content.get("format") == FORMAT else {}
        self._stages: dict[str, dict[str, Any]] = {s["name"]: s for s in self._content.get("stages", [])}

    def open(self, asked: AskedStudy, config: Mapping[str, Any]) -> None:
        """Begin a call: note what was asked and its settings, and forget what an earlier call left as running."""
        new: dict[str, Any] = {"status": "pending", "reason": None, "steps": []}
        self._stages = {
            name: new | self._stages.get(name, {"name": name}) | {"title": settings.title}
            for name, settings in asked.settings.stages.items()
        }
        for stage in self._stages.values():
            if stage["status"] == "running":
                stage |= {"status": "pending", "reason": "interrupted"}
        self._content = {
            "format": FORMAT,
            "name": asked.name,
            "command": asked.command,
            "created": self._content.get("created") or _now(),
            "finished": None,
            "version": __version__,
            "config": dict(config),
        }
        self._write()

    def close(self) -> None:
        """Store that all stages are done."""
        self._content["finished"] = _now()
        self._write()

    def status(self, stage: str) -> Status:
        """Return a stage's status."""
        status: Status = self._stages.get(stage, {}).get("status", "pending")
        return status

    def reason(self, stage: str) -> str | None:
        """Return the reason of a stage's status."""
        return self._stages.get(stage, {}).get("reason")

    def settled(self, stage: str) -> bool:
        """Whether nothing more is to be expected of a stage in this call."""
        return self.status(stage) in _DONE

    def set_stage(self, stage: str, status: Status, reason: str | None = None) -> None:
        """Change a stage's status."""
        self._stages[stage] |= {"status": status, "reason": reason}
        self._write()

    def set_step(self, stage: str, step: Mapping[str, Any]) -> None:
        """Store how a command ended, and the ``runs``, ``sweeps`` and ``folders`` that it made."""
        steps = self._stages[stage]["steps"]
        at = next((n for n, old in enumerate(steps) if old["command"] == step["command"]), len(steps))
        steps[at:] = [dict(step), *steps[at + 1 :]]
        self._write()

    def keep_steps(self, stage: str, commands: Sequence[str]) -> None:
        """Forget the commands that are no longer the stage's, and order the others."""
        steps = {step["command"]: step for step in self._stages[stage]["steps"]}
        self._stages[stage]["steps"] = [steps[c] for c in commands if c in steps]

    def step(self, stage: str, command: str) -> dict[str, Any] | None:
        """Return how a command of a stage ended, if it was run."""
        steps = self._stages.get(stage, {}).get("steps", [])
        return next((dict(step) for step in steps if step["command"] == command), None)

    def is_done(self, stage: str, command: str) -> bool:
        """Whether a command has finished and all that it made is still there."""
        step = self.step(stage, command)
        return (
            step is not None
            and step["status"] == "finished"
            and all(record.RunFolder(self.run_path(run)).status == "finished" for run in step["runs"])
            and all(self.sweep_finished(name) for name in step["sweeps"])
            and all((self.output_dir / folder).is_dir() for folder in step["folders"])
        )

    def sweep_finished(self, name: str) -> bool:
        """Whether a sweep of this project has finished."""
        return bool(self._sweep(name).info().get("status") == "finished")

    def _sweep(self, name: str) -> SweepFolder:
        return SweepFolder(self.output_dir / "sweeps" / name)

    def run_path(self, run: str) -> Path:
        """Return a run's folder: its name under runs/, or a path relative to outputs/ where it has a slash."""
        return self.output_dir / (run if "/" in run else f"runs/{run}")

    def runs(self, stage: str) -> list[Path]:
        """Return the folders of a stage's finished runs, those of its sweeps' jobs included, each once."""
        found: dict[Path, None] = {}
        for step in self._stages.get(stage, {}).get("steps", []):
            if step["status"] == "finished":
                found |= dict.fromkeys(map(self.run_path, step["runs"]))
                for sweep in map(self._sweep, step["sweeps"]):
                    jobs = (sweep.run_of(state) for state in sweep.states())
                    found |= dict.fromkeys(job.path for job in jobs if job is not None)
        return list(found)

    def seconds(self, stage: str) -> float:
        """Return the wall time of a stage's finished commands, over all calls."""
        steps = self._stages.get(stage, {}).get("steps", [])
        return sum(float(step["seconds"] or 0) for step in steps if step["status"] == "finished")

    def failures(self) -> list[tuple[str, str, str]]:
        """Return stage, reason and command of every command that failed."""
        return [
            (name, str(step["reason"]), str(step["command"]))
            for name, stage in self._stages.items()
            for step in stage["steps"]
            if step["status"] == "failed"
        ]

    def _write(self) -> None:
        record.write_json(self.folder / STUDY, self._content | {"stages": [self._stage(name) for name in self._stages]})

    def _stage(self, name: str) -> dict[str, Any]:
        stage = self._stages[name]
        steps = stage["steps"]
        made = {kind: sorted({x for s in steps for x in s[kind]}) for kind in ("runs", "sweeps", "folders")}
        head = {key: stage[key] for key in ("name", "title", "status", "reason")}
        commands = [step["command"] for step in steps]
        return head | {"seconds": round(self.seconds(name), 1), "commands": commands, **made, "steps": steps}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

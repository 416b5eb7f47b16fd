"""Projects of their own, in which commands are started as a user would, and disturbed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fault_kinds.verdicts import Done

REPO = Path(__file__).resolve().parents[2]
_LEFT_SECONDS = 60


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
        group: Path | None = None,
        log: str = "log.txt",
    ) -> subprocess.Popen[bytes]:
        """Start ``python run.py`` (or, with words that begin with ``agnews``, that command).

        Args:
            words: Its words.
            env: More environment.
            limits: Resource limits, such as ``{resource.RLIMIT_NOFILE: 64}``.
            prepare: Shell commands to do before it, in a mount namespace of its own.
            group: Control group that it joins.
            log: File in the project's root that its output goes to.
        """
        program = ["-m", "agnews_exp.cli", *words[1:]] if words[0] == "agnews" else [str(REPO / "run.py"), *words]
        command = [sys.executable, *program]
        if prepare is not None:
            command = ["unshare", "-m", "sh", "-c", f'set -e; {prepare}; exec "$@"', "sh", *command]

        if group is not None:
            command = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]

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
        """Name a process that is still there a minute after its command; None when all have gone."""
        deadline, name = time.monotonic() + _LEFT_SECONDS, "of unknown name"
        while left := self.processes():
            if time.monotonic() > deadline:
                with suppress(psutil.Error):
                    name = " ".join(left[0].cmdline())[-100:]
                self.kill_all()
                return f"a process was left running: {name}"
            time.sleep(0.2)
        return None

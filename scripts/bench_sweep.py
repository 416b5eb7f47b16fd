"""What a sweep costs beside its work: wall time a job of a sweep of dummy-model jobs on cached features.

    python scripts/bench_sweep.py --jobs 20

Each row is one sweep in an empty project: seconds from the command to its end, that divided by the number of jobs, and
what one further job costs, without the start and the end of the sweep (from the first job's end to the last one's).
`process` is our launcher (with the work of one job at a time, and of two), `in process` our sweeper with Hydra's
basic launcher, `hydra` Hydra's own sweeper and launcher, with no resuming, nesting or table.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
LIGHT = (
    "data=sample",
    "features=word_tfidf",
    "features.blocks.word.max_features=1000",
    "model=dummy",
    "evaluation.latency_repeats=0",
)
WAYS = {
    "process": (),
    "process, 2 at once": ("hydra.launcher.n_jobs=2",),
    "process, fresh interpreters": ("hydra.launcher.start=fresh",),
    "in process": ("hydra/launcher=basic",),
    "hydra": ("hydra/launcher=basic", "hydra/sweeper=basic"),
}


def measure(way: str, jobs: int, tracking: str) -> dict[str, float]:
    """Return the seconds of one sweep: in all, a job, a further job; and CPU seconds a job."""
    with tempfile.TemporaryDirectory(prefix="bench-sweep-") as root:
        environment = os.environ | {"AGNEWS_ROOT": root}
        seeds = ",".join(str(n) for n in range(1, jobs + 1))
        more = () if tracking == "none" else ("tracking.log_model=false", "tracking.system_metrics=false")
        run = [sys.executable, str(REPO / "run.py")]
        first = [*run, *LIGHT, *more, f"tracking={tracking}", "seed=0"]
        subprocess.run(first, env=environment, check=True, capture_output=True)  # fills the caches
        words = [*run, "-m", *LIGHT, *more, *WAYS[way], f"tracking={tracking}", f"seed={seeds}"]
        start, used = time.perf_counter(), cpu_seconds()
        done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
        seconds, used = time.perf_counter() - start, cpu_seconds() - used
        if done.returncode:
            raise SystemExit(f"{way}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        ends = sorted(p.stat().st_mtime for p in Path(root, "outputs", "sweeps").glob("*/*/result.json"))
        if len(ends) != jobs:
            raise SystemExit(f"{way}: {len(ends)} of {jobs} jobs finished")
        further = (ends[-1] - ends[0]) / (jobs - 1)
    numbers = {"seconds": seconds, "a_job": seconds / jobs, "a_further_job": further, "cpu_a_job": used / jobs}
    return {name: round(value, 3) for name, value in numbers.items()}


def adopt_orphans() -> None:
    """Become the parent of what a command leaves behind (Linux): nobody waits for the server that forks the jobs."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def cpu_seconds() -> float:
    """Return the CPU time of all child processes that have ended: unlike wall time, other work hardly disturbs it."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--tracking", choices=("mlflow", "none"), default="mlflow")
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    adopt_orphans()
    rows = {}
    print(f"{options.jobs} jobs, tracking={options.tracking}")
    print(f"{'launcher':<30}{'seconds':>10}{'s a job':>10}{'s a further':>13}{'CPU s a job':>13}")
    for way in options.ways:
        rows[way] = row = measure(way, options.jobs, options.tracking)
        shown = f"{row['seconds']:>10.1f}{row['a_job']:>10.2f}{row['a_further_job']:>13.2f}{row['cpu_a_job']:>13.2f}"
        print(f"{way:<30}{shown}", flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"jobs": options.jobs, "tracking": options.tracking, "ways": rows}, indent=2)
        )


if __name__ == "__main__":
    main()

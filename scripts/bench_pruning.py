"""What pruning saves in a search, and whether it finds as much: the same search with its pruner and without.

    python scripts/bench_pruning.py                        # experiment=tiny_search: epochs of a toy transformer
    python scripts/bench_pruning.py experiment=sgd_search data=sample hydra.sweeper.n_trials=10

Each row is one search in an empty project: trials, how many were pruned, the steps (epochs or folds) that were run, the
best value and the seconds. Then the best configuration of the search without pruning is run with several seeds: two
best values that differ by less than that deviation are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def search(root: Path, words: list[str]) -> dict[str, float]:
    """Run one search and count what its study holds."""
    import optuna
    from optuna.trial import TrialState

    start = time.perf_counter()
    run(root, [*words, "hydra.sweeper.plots=false", "sweep.name=search"])
    seconds = time.perf_counter() - start
    storage = f"sqlite:///{root}/outputs/optuna/search.db"
    trials = optuna.load_study(study_name="search", storage=storage).get_trials()
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    return {
        "trials": len(trials),
        "pruned": sum(t.state is TrialState.PRUNED for t in trials),
        "steps": sum(len(t.intermediate_values) for t in trials),
        "best": max(t.value for t in complete if t.value is not None),
        "seconds": round(seconds, 1),
    }


def run(root: Path, words: list[str]) -> None:
    """Run one sweep in a project folder."""
    command = [sys.executable, str(REPO / "run.py"), "-m", *words, "tracking=none"]
    done = subprocess.run(command, env=os.environ | {"AGNEWS_ROOT": str(root)}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}\n{done.stderr[-3000:]}")


def deviation(root: Path, seeds: int) -> float:
    """Return the standard deviation over seeds of the best configuration of the search that lies in a project."""
    best = json.loads((root / "outputs" / "sweeps" / "search" / "best.json").read_text())["best"][0]
    run(
        root,
        [
            *best["overrides"],
            "hydra/sweeper=grid",
            "hydra.sweeper.params=null",
            f"seed=range(1,{seeds + 1})",
            "sweep.name=seeds",
        ],
    )
    results = (root / "outputs" / "sweeps" / "seeds").glob("*/result.json")
    return statistics.stdev(float(json.loads(p.read_text())["objective"]) for p in results)


def main() -> None:
    """Run both searches and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="the search (default: experiment=tiny_search)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds that tell the noise; 0 leaves that out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    words = options.words or ["experiment=tiny_search"]
    with tempfile.TemporaryDirectory(prefix="bench-pruning-") as folder:
        ways = {"with pruning": [], "without": ["hydra.sweeper.pruner={name:none}"]}
        rows = {}
        print(f"{'search':<14}{'trials':>8}{'pruned':>8}{'steps':>8}{'best':>10}{'seconds':>10}")
        for way, more in ways.items():
            root = Path(folder, way.replace(" ", "-"))
            root.mkdir()
            rows[way] = row = search(root, [*words, *more])
            numbers = f"{row['trials']:>8}{row['pruned']:>8}{row['steps']:>8}{row['best']:>10.4f}{row['seconds']:>10}"
            print(f"{way:<14}{numbers}", flush=True)
        saved = 1 - rows["with pruning"]["steps"] / rows["without"]["steps"]
        apart = rows["with pruning"]["best"] - rows["without"]["best"]
        noise = deviation(Path(folder, "without"), options.seeds) if options.seeds > 1 else None
        said = "" if noise is None else f"; standard deviation of the best over {options.seeds} seeds {noise:.4f}"
        print(f"{saved:.0%} of the steps saved; best values {apart:+.4f} apart{said}")
        if options.json:
            content = {"words": words, "searches": rows, "saved": saved, "difference": apart, "noise": noise}
            options.json.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()

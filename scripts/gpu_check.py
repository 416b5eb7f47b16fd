"""Measure on a GPU, in about ten minutes, what only a GPU can show; JSON of all numbers at the end.

    AGNEWS_DATA_DIR=/data/ag_news python scripts/gpu_check.py --out gpu_check.json
    python scripts/gpu_check.py --cpu        # every part in toy size on the CPU and the sample: does the script work?

Parts: ``bench`` (DistilBERT's shape in bf16 against the Hugging Face Trainer: samples/s, model FLOP utilisation of real
tokens, never padding), ``epochs`` (an epoch of the corpus with that shape; minilm for three epochs, a seed each),
``ddp`` (the same epoch on two GPUs, where there are two), ``options`` (a few steps with each way of training).
Needs the extras minilm and bench; no hub.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bench", "epochs", "ddp", "options")
SHAPE = ["model=scratch", "model.max_length=128", "trainer.max_epochs=1"]
"""DistilBERT's shape with random weights, for one epoch."""
SMALL = ["model=tiny", "trainer.max_epochs=1", "data=sample", "data_fraction=0.02", "trainer.n_jobs=1"]
FEW = ["trainer.max_steps=50", "trainer.limit_val_batches=4", "data_fraction=0.1"]
OPTIONS = (
    ["trainer.batch_size=auto"],
    ["optimizer=muon"],
    ["loss=supervised_contrastive"],
    ["model.compile=true"],
    ["model.packing=true", "trainer.group_by_length=false"],
    ["trainer.precision=16"],
    ["trainer.precision=bf16-true"],
    ["model.gradient_checkpointing=true"],
    ["model.long_texts=windows", "model.max_length=32"],
)
SPEEDS = ("train_samples_per_second", "train_tokens_per_second", "padding_share", "peak_gpu_memory_mb", "batch_size")


def main() -> None:
    """Run the parts; what fails is said and stands in the file, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1], help="of minilm; none leaves it out")
    parser.add_argument("--rows", type=int, default=16384, help="rows of the benchmark")
    parser.add_argument("--batch-size", type=int, default=256, help="of the benchmark")
    parser.add_argument("--cpu", action="store_true", help="toy size on the CPU")
    options = parser.parse_args()
    import torch

    if not options.cpu and not torch.cuda.is_available():
        sys.exit("gpu_check.py needs a CUDA device, and torch finds none here; --cpu tries the script itself.")
    device = "CPU" if options.cpu else torch.cuda.get_device_name()
    processes = 2 if options.cpu else torch.cuda.device_count()
    numbers: dict[str, Any] = {"device": device, "processes": processes, "torch": torch.__version__}
    measures = {"bench": bench, "epochs": epochs, "ddp": ddp, "options": try_options}
    for part in options.parts:
        if part == "ddp" and processes < 2:
            numbers[part] = "one GPU only"
            continue
        start = time.monotonic()
        numbers[part] = measures[part](options.cpu, options)
        print(f"{part}: {json.dumps(numbers[part], indent=1)}\n({time.monotonic() - start:.0f} s)", flush=True)
        options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def bench(cpu: bool, options: argparse.Namespace) -> Any:
    """Run scripts/bench_transformer.py, without and with compiled layers."""
    sizes = ["--rows", str(options.rows), "--batch-size", str(options.batch_size), "--repeats", "3", "--random"]
    if cpu:
        sizes = ["--rows", "32", "--held-out", "16", "--batch-size", "16", "--repeats", "1", "--model", "tiny"]
        sizes += ["--data", "sample"]
    found = []
    for more in (["trainer.n_jobs=1"],) if cpu else ([], ["model.compile=true"]):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "bench.json"
            words = [*sizes, "--accelerator", "cpu" if cpu else "gpu", "--json", str(out), "trainer.token_budget=null"]
            failed = _call([str(ROOT / "scripts" / "bench_transformer.py"), *words, *more])
            found.append({"words": more, "failed": failed} if failed else json.loads(out.read_text()) | {"words": more})
    return found


def epochs(cpu: bool, options: argparse.Namespace) -> Any:
    """Train DistilBERT's shape for one epoch of the corpus, and minilm for three with each seed."""
    found: dict[str, Any] = {"shape": run(SMALL if cpu else SHAPE, cpu)}
    if not cpu and options.seeds:
        found["minilm"] = [run(["model=minilm", "trainer.max_epochs=3", f"seed={seed}"], cpu) for seed in options.seeds]
        scores = [one["test/macro_f1"] for one in found["minilm"] if "failed" not in one]
        found["minilm_mean"] = statistics.mean(scores) if scores else None
    return found


def ddp(cpu: bool, _: argparse.Namespace) -> Any:
    """Train the epoch once more in two processes: the same batches, so about the same score."""
    return run([*(SMALL if cpu else SHAPE), "trainer.strategy=ddp", "trainer.devices=2"], cpu)


def try_options(cpu: bool, _: argparse.Namespace) -> Any:
    """Train a few steps with each option; of a CPU those that it can do at once."""
    chosen = OPTIONS[:1] if cpu else OPTIONS
    return {" ".join(words): run([*(SMALL if cpu else [*SHAPE, *FEW]), *words], cpu) for words in chosen}


def run(words: list[str], cpu: bool) -> dict[str, Any]:
    """Return the scores, speeds and seconds of a run, or how it failed."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        failed = _call([
            str(ROOT / "run.py"), f"trainer={'cpu' if cpu else 'gpu'}", "trainer.devices=1", *words, "tracking=none",
            "evaluation.latency_repeats=0", f"paths.output_dir={root}/outputs", f"hydra.run.dir={folder}",
        ])  # fmt: skip
        if failed:
            return {"failed": failed}
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    kept = {
        name: result["metrics"][name]
        for name in ("test/macro_f1", "val/macro_f1", *SPEEDS)
        if name in result["metrics"]
    }
    return kept | {"fit_seconds": result["timings"]["fit"], "notes": result["notes"]}


def _call(words: list[str]) -> str:
    """Run a script of ours; return the last lines of its errors where it fails, else nothing."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    print(done.stdout, end="", flush=True)
    return "" if done.returncode == 0 else "\n".join(done.stderr.strip().splitlines()[-4:]) or f"code {done.returncode}"


if __name__ == "__main__":
    main()

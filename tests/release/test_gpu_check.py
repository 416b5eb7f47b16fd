"""The script for a GPU works, in toy size on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check.py"


@pytest.mark.slow
def test_the_check_for_a_gpu_runs_on_a_cpu_and_keeps_its_numbers(tmp_path):
    pytest.importorskip("accelerate")
    out = tmp_path / "numbers.json"
    words = ["--cpu", "--parts", "bench", "options", "--out", str(out)]
    done = subprocess.run([sys.executable, SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "processor seconds" in done.stdout
    numbers = json.loads(out.read_text())
    (table,) = numbers["bench"]
    assert set(table["arms"]) == {"ours", "trainer, padded", "trainer, dynamic"}
    assert min(arm["processor_seconds"] for arm in table["arms"].values()) > 0
    assert set(table["ratios"]["trainer, padded"]) == {"wall", "processor"}
    assert numbers["options"]["trainer.batch_size=auto"]["train_samples_per_second"] > 0
